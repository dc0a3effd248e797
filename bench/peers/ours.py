# SPDX-License-Identifier: Apache-2.0
"""Runs `flashomni` as a process and gives its JSON back."""
import json
import os
import shlex
import subprocess
import tempfile


class Flashomni:
    def __init__(self, program, threads):
        self.program = program
        self.threads = threads
        self.commands = []  # every different command line, for the record

    def __call__(self, *args, folder=None):
        """The JSON document of one run, which writes other files into `folder`."""
        command = [self.program, *map(str, args), "--threads", str(self.threads), "--quiet"]
        text = shlex.join(command)
        if text not in self.commands:
            self.commands.append(text)
        with tempfile.TemporaryDirectory() as results:
            path = os.path.join(results, "result.json")
            done = subprocess.run([os.path.abspath(self.program), *command[1:], "--json", path], cwd=folder,
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{text}: exit code {done.returncode}, wanted 0: {done.stderr.strip()}")
            with open(path) as file:
                return json.load(file)

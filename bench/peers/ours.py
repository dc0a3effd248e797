# SPDX-License-Identifier: Apache-2.0
"""Runs `flashomni` as a process and gives its JSON back."""
import json
import os
import shlex
import subprocess
import tempfile


class Warm:
    """One `flashomni bench` that stays: every call() is a round of it, warm like the libraries beside it."""

    def __init__(self, command, program, folder):
        self.path = os.path.join(folder.name, "result.json")
        self.folder = folder
        self.text = shlex.join(command)
        self.process = subprocess.Popen([os.path.abspath(program), *command[1:], "--json", self.path],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)

    def __call__(self):
        """The milliseconds of each row."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.fail()
        return json.loads(answer)

    def close(self):
        """The JSON document of all rounds."""
        self.process.stdin.close()
        if self.process.wait() != 0:
            self.fail()
        with open(self.path) as file:
            document = json.load(file)
        self.folder.cleanup()
        return document

    def fail(self):
        raise SystemExit(f"{self.text}: exit code {self.process.wait()}, wanted 0: {self.process.stderr.read().strip()}")


class Flashomni:
    def __init__(self, program, threads):
        self.program = program
        self.threads = threads
        self.commands = []  # every different command line, for the record

    def command(self, args):
        command = [self.program, *map(str, args), "--threads", str(self.threads), "--quiet"]
        text = shlex.join(command)
        if text not in self.commands:
            self.commands.append(text)
        return command, text

    def warm(self, *args):
        """`flashomni bench` of these arguments, a round of it at a time."""
        command, _ = self.command([*args, "--on-request"])
        return Warm(command, self.program, tempfile.TemporaryDirectory())

    def __call__(self, *args, folder=None):
        """The JSON document of one run, which writes other files into `folder`."""
        command, text = self.command(args)
        with tempfile.TemporaryDirectory() as results:
            path = os.path.join(results, "result.json")
            done = subprocess.run([os.path.abspath(self.program), *command[1:], "--json", path], cwd=folder,
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"{text}: exit code {done.returncode}, wanted 0: {done.stderr.strip()}")
            with open(path) as file:
                return json.load(file)

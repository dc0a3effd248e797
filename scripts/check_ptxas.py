#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs nvcc and reads what ptxas says of the kernels: `check_ptxas.py [--strict] -- nvcc ...`.

The resources of every kernel (registers, spills, shared memory) go to OBJECT.ptxas and not to the
terminal. With --strict a kernel that spills, or whose warpgroup products ptxas serialises, or whose
setmaxnreg it ignores, ends the build: such code is right and slow, and nothing else would tell.

`--self-test` proves that each rule can fail.
"""

import os
import re
import subprocess
import sys

# "ptxas info" lines and what follows them; everything else is for the user to see.
RESOURCES = re.compile(
    r"^(ptxas info|\s+\d+ bytes stack frame|\s+Function properties|\s*Compiling entry function)"
)
KERNEL = re.compile(r"(?:Compiling entry function|Function properties for) '?([\w$.]+)'?")
SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
SERIALIZED = re.compile(r"\bC75\d\d\b|wgmma.*serializ|setmaxnreg.*ignor|'setmaxnreg' ignored", re.I)


def problems_of(text):
    """Why these kernels may not be used, as lines."""
    problems = []
    kernel = "a kernel"
    for line in text.splitlines():
        match = KERNEL.search(line)
        if match:
            kernel = match.group(1)
        match = SPILL.search(line)
        if match and match.groups() != ("0", "0"):
            stores, loads = match.groups()
            problems.append(f"{kernel}: {stores} bytes of spill stores, {loads} of spill loads")
        if SERIALIZED.search(line):
            problems.append(f"{kernel}: {line.strip()}")
    return problems


def object_of(command):
    for flag, value in zip(command, command[1:]):
        if flag == "-o":
            return value
    return None


def run(command, strict):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    text = done.stdout + done.stderr
    shown = [line for line in text.splitlines() if line.strip() and not RESOURCES.match(line)]
    if shown:
        print("\n".join(shown), file=sys.stderr)
    if done.returncode != 0:
        return done.returncode
    out = object_of(command)
    if out and "ptxas info" in text:
        with open(out + ".ptxas", "w", encoding="utf-8") as file:
            file.write(text)
    problems = problems_of(text) if strict else []
    for problem in problems:
        print(f"ptxas: {problem}", file=sys.stderr)
    if problems and out and os.path.exists(out):
        os.remove(out)  # or the next build would take it for good
    return 1 if problems else 0


def self_test():
    head = "ptxas info    : Compiling entry function '_Z1kv' for 'sm_90a'\n"
    clean = "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
    spill = "    8 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads\n"
    cases = [
        (head + clean + "ptxas info    : Used 168 registers\n", 0),
        (head + spill, 1),
        (head + clean + "ptxas info : (C7510) Potential Performance Loss: wgmma\n", 1),
        ("warning : wgmma pipeline crossing function boundary, serialization\n", 1),
        ("ptxas info : 'setmaxnreg' ignored to maintain minimum requirements\n", 1),
    ]
    failed = 0
    for text, wanted in cases:
        seen = len(problems_of(text))
        if seen != wanted:
            print(f"self-test: wanted {wanted} problems, saw {seen} in: {text}", file=sys.stderr)
            failed += 1
    if problems_of(head + spill) != ["_Z1kv: 4 bytes of spill stores, 0 of spill loads"]:
        print("self-test: a spill does not name its kernel", file=sys.stderr)
        failed += 1
    print(f"ptxas self-test: {len(cases) + 1} cases, {failed} failed")
    return 1 if failed else 0


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return self_test()
    if "--" not in arguments or set(arguments[: arguments.index("--")]) - {"--strict"}:
        sys.exit("usage: check_ptxas.py [--strict] -- nvcc ...")
    split = arguments.index("--")
    return run(arguments[split + 1 :], "--strict" in arguments[:split])


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check on every tracked file.

- a source file has at most 800 lines, opens with its SPDX line and says in the lines after it what
  it is;
- no machine's own paths, no leftovers (unfinished-work marks, disabled code, merge conflicts);
- text ends with one newline and has no trailing blanks;
- what starts with #! can be run, and nothing else claims that it can.

`--self-test` proves that each rule can fail.
"""

import os
import re
import sys

import repo_files

MAX_LINES = 800

CPP = {".h", ".cc", ".cpp", ".cu", ".cuh", ".inc"}
SCRIPT = {".py", ".sh"}

# Spelt in pieces, so that this file does not match itself.
FORBIDDEN = [
    (re.compile(r"(?<![\w.-])/wor" + r"k/"), "a path of one machine"),
    (re.compile(r"/tmp/bash" + r"_jobs"), "a path of one machine"),
    (re.compile(r"\.\./(sha" + r"red|\.lib" + r"rary)"), "a path outside of the repository"),
    (re.compile(r"(?<![\w.-])/(home|Us" + r"ers)/\w+/"), "a path of one machine"),
    (re.compile(r"(?<![\w.-])/ro" + r"ot/"), "a path of one machine"),
    (re.compile(r"^(<{7}|>{7}) ", re.MULTILINE), "a merge conflict"),
]
LEFTOVERS = [
    (re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"), "a mark of unfinished work"),
    (re.compile(r"^\s*#\s*if\s+" + r"0\b", re.MULTILINE), "disabled code"),
]


def is_source(path):
    """Whether the file is program text (by its suffix, or one of the scripts without one)."""
    suffix = os.path.splitext(path)[1]
    return suffix in CPP | SCRIPT or path == ".ci/run"


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check_text(path, text):
    """Problems of one text file."""
    problems = []
    patterns = list(FORBIDDEN)
    # Models bring their own vocabulary.
    if not path.startswith("models/"):
        patterns += LEFTOVERS
    for pattern, what in patterns:
        for match in pattern.finditer(text):
            seen = match.group().strip()
            problems.append(f"{path}:{line_of(text, match.start())}: {what}: {seen!r}")
    if is_source(path):
        problems += check_source(path, text)
    return problems


def check_source(path, text):
    problems = []
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        problems.append(f"{path}: {len(lines)} lines, wanted at most {MAX_LINES}; split it by idea")
    mark = "//" if os.path.splitext(path)[1] in CPP else "#"
    head = lines[1:] if lines and lines[0].startswith("#!") else lines
    if not head or head[0] != f"{mark} SPDX-License-Identifier: Apache-2.0":
        seen = head[0] if head else "an empty file"
        problems.append(f"{path}:1: wanted '{mark} SPDX-License-Identifier: Apache-2.0', saw {seen!r}")
    elif not any(re.match(r'(//|#|""")\s*\w', line) for line in head[1:4]):
        problems.append(f"{path}:2: wanted a few lines that say what this file is and why")
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        problems.append(f"{path}: wanted exactly one newline at the end")
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            problems.append(f"{path}:{number}: blanks at the end of the line")
    return problems


def check_run_bit(path, data, executable):
    """Problems of the run bit of one file."""
    script = data.startswith(b"#!")
    if script and not executable:
        return [f"{path}: starts with #! but has no run bit; chmod +x"]
    if executable and not script:
        return [f"{path}: has a run bit but does not start with #!; chmod -x"]
    return []


def self_test():
    head = "// SPDX-License-Identifier: Apache-2.0\n//\n// What this is.\n"
    good = head + "int a;\n"
    cases = [
        ("src/a.cc", good, True),
        ("scripts/a.sh", "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\n# Why.\n", True),
        ("scripts/a.py", '# SPDX-License-Identifier: Apache-2.0\n"""Why."""\n', True),
        ("src/a.cc", "int a;\n", False),
        ("src/a.cc", "// SPDX-License-Identifier: Apache-2.0\n\nint a;\n", False),
        ("src/a.cc", head + "int a;\n" * MAX_LINES, False),
        ("src/a.cc", head + "int a; \n", False),
        ("src/a.cc", head + "int a;", False),
        ("src/a.cc", good + "\n", False),
        ("src/a.cc", good + "// TO" + "DO: later\n", False),
        ("src/a.cc", good + "#if " + "0\n#endif\n", False),
        ("src/a.cc", good + "// see /wor" + "k/x\n", False),
        ("a.md", "see /ro" + "ot/x\n", False),
        ("a.md", "see /home/" + "someone/x\n", False),
        ("a.md", "[x](../sha" + "red/design.md)\n", False),
        ("a.md", "<" * 7 + " HEAD\n", False),
        ("a.md", "frame" + "/wor" + "k/x and mkstemp " + "X" * 6 + "\n", True),
        ("models/x/vocab.json", '["HA' + 'CK"]\n', True),
    ]
    problems = []
    for path, text, allowed in cases:
        seen = check_text(path, text)
        if bool(seen) == allowed:
            problems.append(f"self-test: {path} {text[:60]!r}: wanted ok={allowed}, saw {seen}")
    bits = [(b"#!/bin/sh\n", False), (b"text\n", True), (b"#!/bin/sh\n", True), (b"text\n", False)]
    verdicts = [bool(check_run_bit("a", data, bit)) for data, bit in bits]
    if verdicts != [True, True, False, False]:
        problems.append(f"self-test: run bits: saw {verdicts}")
    return repo_files.report("tree self-test", problems, f"{len(cases) + len(bits)} cases")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        sys.exit("usage: check_tree.py [--self-test]")
    problems = []
    files = repo_files.tracked_files()
    for path in files:
        full = repo_files.ROOT / path
        with open(full, "rb") as file:
            problems += check_run_bit(str(path), file.read(2), os.access(full, os.X_OK))
        text = repo_files.read_text(path)
        if text is not None:
            problems += check_text(str(path), text)
    return repo_files.report("tree", problems, f"{len(files)} files")


if __name__ == "__main__":
    sys.exit(main())

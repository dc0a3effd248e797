# SPDX-License-Identifier: Apache-2.0
"""The files that the checks in this folder look at: what git tracks, as it lies on disk.

A tracked file that was deleted but not committed yet is left out. New files count as soon as they
are added to git; build folders and downloads never do.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def tracked_files():
    """Paths relative to ROOT, sorted, of every tracked regular file that exists."""
    try:
        listing = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot list the tracked files: this check needs git and a checkout ({error})")
    paths = sorted(pathlib.PurePosixPath(p) for p in listing.split("\0") if p)
    return [p for p in paths if (ROOT / p).is_file() and not (ROOT / p).is_symlink()]


def read_text(path):
    """The text of a tracked file, or None where it is binary."""
    data = (ROOT / path).read_bytes()
    if b"\0" in data[:8192]:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def report(name, problems, checked):
    """Prints the outcome of one check and returns its exit code; `checked` is "12 files"."""
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{name}: {len(problems)} problem(s) in {checked}", file=sys.stderr)
        return 1
    print(f"{name}: {checked}, all well")
    return 0

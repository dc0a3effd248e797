#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the documentation against the repository.

- relative links and pictures in every tracked *.md lead to a tracked file or folder, and #anchors
  to a heading (with the anchor rules of GitHub);
- README.md has at most 200 lines;
- with `--cli PATH`, every `flashomni ...` line in a code block names a subcommand and flags that
  this program's own --help knows.

`--self-test` proves that each rule can fail.
"""

import argparse
import os
import pathlib
import posixpath
import re
import shlex
import subprocess
import sys
import urllib.parse

import repo_files

README_LINES = 200

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*(\S*)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
INLINE_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)")
LINK_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*(?:[\"'(].*)?$")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']+)[\"']", re.I)
HTML_ANCHOR = re.compile(r"<\w+\b[^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.I)
SHELL_LANGUAGES = {"", "sh", "bash", "shell", "console", "text"}


class Document:
    """One Markdown file, taken apart: links, anchors and code blocks."""

    def __init__(self, text):
        self.links = []  # (line number, target)
        self.anchors = set()
        self.blocks = []  # (line number of the first line, language, lines)
        self.num_lines = len(text.splitlines())
        seen = {}
        fence = None
        for number, line in enumerate(text.splitlines(), 1):
            mark = FENCE.match(line)
            if fence:
                if mark and mark[1].startswith(fence) and not mark[2]:
                    fence = None
                else:
                    self.blocks[-1][2].append(line)
                continue
            if mark:
                fence = mark[1]
                self.blocks.append((number + 1, mark[2].lower(), []))
                continue
            self._prose(number, line, seen)

    def _prose(self, number, line, seen):
        heading = HEADING.match(line)
        if heading:
            slug = slug_of(heading[1])
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            self.anchors.add(f"{slug}-{count}" if count else slug)
        plain = CODE_SPAN.sub("", line)
        self.anchors.update(HTML_ANCHOR.findall(plain))
        # A picture inside of a link, [![x](a)](b), hides b from the pattern: look at it twice.
        targets = INLINE_LINK.findall(plain)
        targets += INLINE_LINK.findall(re.sub(r"!\[[^\]]*\]\([^)]*\)", "x", plain))
        targets += HTML_LINK.findall(plain) + LINK_DEFINITION.findall(plain)
        self.links += [(number, t) for t in dict.fromkeys(targets)]


def slug_of(heading):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[^\w\- ]", "", text.lower())
    return text.replace(" ", "-")


def check_links(path, document, files, folders, anchors_of):
    """Problems of the links of one document; `anchors_of` gives another document's anchors."""
    problems = []
    for number, target in document.links:
        where = f"{path}:{number}"
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", target):
            continue
        name, _, anchor = urllib.parse.unquote(target).partition("#")
        if name.startswith("/"):
            problems.append(f"{where}: {target}: wanted a path relative to this file")
            continue
        full = posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) if name else path
        if full not in files and full not in folders:
            problems.append(f"{where}: {target}: no such file in the repository")
        elif anchor and full.endswith(".md") and anchor not in anchors_of(full):
            problems.append(f"{where}: {target}: {full} has no heading for #{anchor}")
    return problems


def commands_of(document):
    """(line number, words) of every `flashomni ...` command in the shell code blocks."""
    commands = []
    for start, language, lines in document.blocks:
        if language not in SHELL_LANGUAGES:
            continue
        joined, first = "", start
        for number, line in enumerate(lines, start):
            if not joined:
                first = number
            joined += line
            if joined.endswith("\\"):
                joined = joined[:-1] + " "
                continue
            commands += [(first, words) for words in split_commands(joined)]
            joined = ""
    return commands


def split_commands(line):
    """The commands of one shell line that start the program, as word lists."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return []
    commands, current = [], []
    for word in words + [";"]:
        if set(word) <= set(";|&<>"):
            commands.append(current)
            current = []
        else:
            current.append(word)
    result = []
    for words in commands:
        while words and re.match(r"^(\w+=.*|time|sudo)$", words[0]):
            words = words[1:]
        if words and posixpath.basename(words[0]) == "flashomni":
            result.append(words)
    return result


def check_commands(path, document, help_of):
    """Problems of the quoted commands; help_of(()) and help_of((subcommand,)) give help texts."""
    problems = []
    for number, words in commands_of(document):
        where = f"{path}:{number}"
        subcommand = next((w for w in words[1:] if not w.startswith("-")), None)
        known = re.findall(r"^  ([a-z][\w-]*)", help_of(()), re.MULTILINE)
        if subcommand is None or subcommand.startswith(("[", "<", ".")):
            text = help_of(())
        elif subcommand in known:
            text = help_of(()) + help_of((subcommand,))
            rest = words[words.index(subcommand) + 1:]
            nested = rest and re.match(r"[a-z]", rest[0])
            if nested and re.search(rf"^  {re.escape(rest[0])}\b", help_of((subcommand,)), re.M):
                text += help_of((subcommand, rest[0]))
        else:
            problems.append(f"{where}: flashomni {subcommand}: no such subcommand")
            continue
        flags = {w.split("=")[0] for w in words[1:] if re.match(r"^--?[A-Za-z]", w)}
        for flag in sorted(flags):
            if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text):
                problems.append(f"{where}: flashomni {subcommand or ''} {flag}: no such flag")
    return problems


def ask_cli(cli):
    """A function that gives the --help text of the program or of one subcommand, asked once."""
    cache = {}

    def help_of(subcommand):
        if subcommand not in cache:
            command = [cli, *subcommand, "--help"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
            cache[subcommand] = done.stdout
        return cache[subcommand]

    return help_of


def self_test():
    other = Document("# Top\n## A `b` c!\n## Same\n## Same\n<a id=\"here\"></a>\n")
    helps = {
        (): "Subcommands:\n  generate   Make a picture\nOptions:\n  -h,--help\n",
        ("generate",): "Options:\n  -o,--out FILE\n  --steps INT\n",
    }
    links = [
        ("[x](other.md)", True),
        ("[x](other.md#a-b-c)", True),
        ("[x](other.md#same-1)", True),
        ("[x](other.md#here)", True),
        ("[x](../src)", True),
        ("[x](https://example.org/none)", True),
        ("`[x](none.md)`", True),
        ("```\n[x](none.md)\n```", True),
        ("# Self\n[x](#self)", True),
        ("[x](none.md)", False),
        ("[x](other.md#a-b)", False),
        ("[x](#none)", False),
        ("![x](none.png)", False),
        ("[![x](../src)](none.md)", False),
        ('<img src="none.png">', False),
        ("[x]: none.md", False),
        ("[x](/docs/other.md)", False),
    ]
    commands = [
        ('```sh\nflashomni generate "a cat" --steps 5 -o x.png | head --bytes 3\n```', True),
        ("```sh\nbuild/bin/flashomni generate a \\\n  --steps=5 && ls --all\n```", True),
        ("```cpp\nflashomni nothing\n```", True),
        ("```sh\nflashomni --help\n```", True),
        ("```sh\nflashomni generat a\n```", False),
        ("```sh\n$ X=1 flashomni generate a --step 5\n```", False),
        ("```sh\nflashomni generate a \\\n --none\n```", False),
    ]
    problems = []
    files, folders = {"docs/a.md", "docs/other.md"}, {"docs", "src"}
    for text, allowed in links:
        document = Document(text)
        anchors = {"docs/a.md": document.anchors, "docs/other.md": other.anchors}
        seen = check_links("docs/a.md", document, files, folders, anchors.get)
        if bool(seen) == allowed:
            problems.append(f"self-test: {text!r}: wanted ok={allowed}, saw {seen}")
    for text, allowed in commands:
        seen = check_commands("docs/a.md", Document(text), helps.get)
        if bool(seen) == allowed:
            problems.append(f"self-test: {text!r}: wanted ok={allowed}, saw {seen}")
    if not check_length("README.md", Document("x\n" * (README_LINES + 1))):
        problems.append("self-test: wanted a README that is too long to be refused")
    return repo_files.report("docs self-test", problems, f"{len(links) + len(commands) + 1} cases")


def check_length(path, document):
    if path == "README.md" and document.num_lines > README_LINES:
        return [f"{path}: {document.num_lines} lines, wanted at most {README_LINES}"]
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", metavar="PATH", help="the flashomni program to ask for --help")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    help_of = ask_cli(os.path.abspath(args.cli)) if args.cli else None

    files = {str(p) for p in repo_files.tracked_files()}
    folders = {str(parent) for f in files for parent in pathlib.PurePosixPath(f).parents}
    documents = {
        f: Document((repo_files.ROOT / f).read_text(encoding="utf-8"))
        for f in sorted(files)
        if f.endswith(".md")
    }
    problems = []
    for path, document in documents.items():
        problems += check_length(path, document)
        problems += check_links(path, document, files, folders, lambda f: documents[f].anchors)
        if help_of:
            problems += check_commands(path, document, help_of)
    return repo_files.report("docs", problems, f"{len(documents)} files")


if __name__ == "__main__":
    sys.exit(main())

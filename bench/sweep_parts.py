#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One `flashomni sweep` as several processes side by side, each with its share of the prompts.

    bench/sweep_parts.py --jobs 8 CONFIG --prompts FILE --out-dir DIR --threads 2 [further flags of sweep]

Every part is a resumable sweep of its own in DIR/part-N; started again, all go on where they stopped.
When all are done their journals become one in DIR and `sweep` itself writes tables and plots from it. A
prompt's configs and its dense run stay in one process, so that speed-ups compare runs in like company.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

JOURNAL = "trials.jsonl"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, required=True)
    parser.add_argument("--out-dir", type=pathlib.Path, required=True)
    parser.add_argument("config", type=pathlib.Path)
    for name in ("--report", "--json"):
        parser.add_argument(name, help="written from the whole, not by the parts")
    args, rest = parser.parse_known_args()
    prompts = [line for line in args.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not 1 <= args.jobs <= len(prompts):
        parser.error(f"--jobs is {args.jobs}, wanted 1 to {len(prompts)} (the number of prompts)")
    return args, prompts, rest


def command(args, prompts, folder, rest):
    program = os.environ.get("FLASHOMNI", "build/release/bin/flashomni")
    return [program, "sweep", str(args.config), "--prompts", str(prompts), "--out-dir", str(folder), *rest]


def run_parts(args, prompts, rest):
    """Runs all parts to their ends; on a signal stops them and leaves. True if all ended well."""
    started = []
    for part in range(args.jobs):
        folder = args.out_dir / f"part-{part}"
        folder.mkdir(parents=True, exist_ok=True)
        share = folder / "prompts.txt"
        share.write_text("".join(p + "\n" for p in prompts[part :: args.jobs]), encoding="utf-8")
        flags = [*rest, "--quiet", *(["--no-noise-floor"] if part else [])]
        log = open(folder / "log.txt", "a", encoding="utf-8")  # noqa: SIM115 (lives as long as the part)
        started.append(subprocess.Popen(command(args, share, folder, flags), stdout=log, stderr=log))

    def stop(number, _frame):
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return all([process.wait() == 0 for process in started])


def merge(args):
    """All parts' journals as one, pictures and symbols under names of their own."""
    header, lines = None, []
    for part in range(args.jobs):
        folder = args.out_dir / f"part-{part}"
        first, *entries = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
        if header is None:
            header = first
        elif json.loads(first) != json.loads(header):
            sys.exit(f"{folder / JOURNAL}: another header than part-0's, the parts are of different sweeps")
        for entry in map(json.loads, entries):
            for kind in ("picture", "symbols"):
                name = entry.get(kind)
                if name:
                    entry[kind] = f"part-{part}-{name}"
                    shutil.copyfile(folder / name, args.out_dir / entry[kind])
            lines.append(json.dumps(entry))
    new = args.out_dir / (JOURNAL + ".new")
    new.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    new.replace(args.out_dir / JOURNAL)


def main():
    args, prompts, rest = parse()
    if not run_parts(args, prompts, rest):
        sys.exit(f"a part failed, see {args.out_dir}/part-*/log.txt; the same command goes on")
    merge(args)
    whole = [flag for name in ("report", "json") if getattr(args, name) for flag in (f"--{name}", getattr(args, name))]
    sys.exit(subprocess.call(command(args, args.prompts, args.out_dir, [*rest, *whole])))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How busy the units of a GPU are in GEMM-Q, GEMM-O and cuBLASLt's linear layer, by Nsight Compute.

  bench/gpu_units.py --commit REV --out bench/results/DATE-GPU-units.json

Profiles the launches of `flashomni bench` (clocks and caches as they are) and gives, for every case, medians over its
launches: microseconds, clock, share of the cycles in which tensor cores work, share of the peak throughput of L2
and of DRAM, and bytes. Profiled launches stand alone: compare times within a case, and rates by `bench` itself.
"""
import argparse
import csv
import datetime
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

METRICS = {
    "us": ("gpu__time_duration.sum", 1e-3),
    "clock_ghz": ("sm__cycles_elapsed.avg.per_second", 1e-9),
    "tensor_share": ("sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", 1e-2),
    "l2_share": ("lts__throughput.avg.pct_of_peak_sustained_elapsed", 1e-2),
    "dram_share": ("dram__throughput.avg.pct_of_peak_sustained_elapsed", 1e-2),
    "l2_read_bytes": ("lts__t_sectors_op_read.sum", 32),
    "dram_read_bytes": ("dram__bytes_read.sum", 1),
    "dram_written_bytes": ("dram__bytes_write.sum", 1),
}
SPARSITIES = ["0.25", "0.5", "0.75", "0.9"]
# The launches of a round, in the order of `bench`.
CASES = {
    "gemm-q": ["dense", *SPARSITIES, "linear"],
    "gemm-o": ["dense", *SPARSITIES, "update", "linear"],
}
ROUNDS = 3


def ncu():
    found = shutil.which("ncu") or next(iter(sorted(pathlib.Path("/opt/nvidia").glob("nsight-compute/*/ncu"))), None)
    if not found:
        sys.exit("no ncu (Nsight Compute, of the CUDA toolkit) on the PATH")
    return str(found)


def profile(program, op, tokens):
    bench = [program, "bench", op, "--device", "cuda", "--n", str(tokens), "--block", "128", "--repeats", "1",
             "--sparsity", ",".join(SPARSITIES)]
    if op == "gemm-o":
        bench += ["--planes", "1"]
    cases = CASES[op]
    command = [ncu(), "--clock-control", "none", "--cache-control", "none", "--csv", "--kill", "on",
               "--metrics", ",".join(name for name, _ in METRICS.values()),
               "--kernel-name", "regex:gemm|nvjet|cutlass", "--launch-count", str(ROUNDS * len(cases)), *bench]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    launches = {}
    for row in csv.DictReader(lines):
        launch = launches.setdefault(int(row["ID"]), {"kernel": row["Kernel Name"]})
        launch[row["Metric Name"]] = float(row["Metric Value"].replace(",", ""))
    launches = [launches[i] for i in sorted(launches)]
    if len(launches) != ROUNDS * len(cases):
        sys.exit(f"{op}, {tokens} tokens: {len(launches)} launches seen, {ROUNDS * len(cases)} wanted\n" + done.stdout[-2000:]
                 + done.stderr[-2000:])
    rows = []
    for i, case in enumerate(cases):
        of_case = launches[i::len(cases)]
        ours = [not re.search("nvjet|cutlass", launch["kernel"]) for launch in of_case]
        if ours != [case != "linear"] * ROUNDS:
            sys.exit(f"{op}, {tokens} tokens: launches are not in the order wanted: {[x['kernel'] for x in launches]}")
        row = {"op": op, "tokens": tokens, "case": case, "kernel": of_case[0]["kernel"][:60]}
        for key, (name, scale) in METRICS.items():
            row[key] = statistics.median(launch[name] for launch in of_case) * scale
        rows.append(row)
        print(f"{op} {tokens} {case}: " + ", ".join(f"{key} {row[key]:.4g}" for key in METRICS), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flashomni", default="build/release/bin/flashomni", metavar="PROGRAM")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4608, 16896, 33280])
    parser.add_argument("--commit", required=True, help="that PROGRAM was built from")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    gpu = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    rows = [row for tokens in args.tokens for op in CASES for row in profile(args.flashomni, op, tokens)]
    # Folders of the machine that it ran on say nothing to others.
    command = " ".join(re.sub(r"^/.*/", "", word) for word in sys.argv)
    result = {"command": command, "commit": args.commit, "date": datetime.date.today().isoformat(),
              "gpu": gpu.stdout.strip(), "rows": rows}
    pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

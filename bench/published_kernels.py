#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many times faster our kernels are than the published ones (bench/published_kernels.json), as a Markdown
table: their milliseconds over ours. Theirs read one bias plane in GEMM-O, so compare with --planes 1.

  bench/published_kernels.py bench/results/DATE-h100-{attention-sweep,gemm-q,gemm-o-1-plane}.json
"""
import json
import pathlib
import sys


def main():
    theirs = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
    ours = [row for path in sys.argv[1:] for row in json.loads(pathlib.Path(path).read_text())["rows"]]
    shares = ("dense", "0", "0.25", "0.5", "0.75", "0.9")
    print("| operation | tokens | " + " | ".join(shares) + " |")
    print("| --- " * (2 + len(shares)) + "|")
    for op in ("attention", "gemm-q", "gemm-o"):
        for tokens, times in theirs[op].items():
            for pattern in ("s_s", "s_c"):
                wanted = {"dense": times.get("dense"), **times.get(pattern, {})}
                if pattern not in times:
                    continue
                cells = []
                for share in shares:
                    mine = [row["ms_median"] for row in ours if row["op"] == op and row["n"] == int(tokens)
                            and row["pattern"] == ("dense" if share == "dense" else pattern)
                            and (share == "dense" or abs(row["sparsity"] - float(share)) < 0.006)]
                    cells.append(f"{wanted[share] / mine[0]:.2f}" if wanted.get(share) and mine else "")
                print(f"| {op}, {pattern} | {int(tokens):,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FlashOmni against PyTorch and oneDNN on this CPU: attention, linear layers and a dense generation, on the
same shapes, threads and distribution of data, interleaved in one run. Writes the rows of `flashomni bench`
with the peers' milliseconds in `baselines`, and prints ratios. Run it on a quiet machine.

  python3 -m venv .venv && .venv/bin/pip install -r bench/requirements-peers.txt
  .venv/bin/python bench/peers_cpu.py                          about half an hour on two cores
  .venv/bin/python bench/peers_cpu.py --only linear --rounds 3
  .venv/bin/python bench/peers_cpu.py --only bf16              products in bf16, where the CPU has AMX
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import sys

import numpy
import torch

from peers import generation, kernels
from peers.ours import Flashomni
from peers.timing import interleave, paired_ratio, statistics, timed

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 1
BLOCK = 64  # tokens of a symbol block, and of FlexAttention's
# (tokens, heads, head dim, repeats a round, whether to compare under sparse masks too)
ATTENTION = [(1088, 6, 64, 8, True), (4608, 24, 128, 1, True), (16896, 4, 128, 1, False)]
SPARSITIES = [0.5, 0.75, 0.9]
LINEAR_ROWS = [1088, 4608]
LINEAR_WIDTHS = [384, 1536, 3072]


class Report:
    def __init__(self, rounds):
        self.rounds = rounds
        self.rows = []
        self.peaks = []
        self.machine = None
        self.commit = None
        self.unavailable = {}  # {peer: why}, of what could not run here

    def take_head(self, document):
        self.machine, self.commit = document["machine"], document["commit"]
        self.peaks.append(document["peak_tflops"])

    def add(self, row, ours, peers):
        """A row of `flashomni bench` with the statistics of all rounds, ours and the peers'."""
        flops = row["tflops_active"] * row["ms_median"]
        row.update(statistics(ours))
        row.pop("ms_samples")
        row["tflops_active"] = flops / row["ms_median"]
        same = [r for r in self.rows if r["pattern"] == "dense" and all(
            r[key] == row[key] for key in ("op", "n", "heads", "in_features", "out_features"))]
        row["speedup_vs_dense"] = (same[0] if same else row)["ms_median"] / row["ms_median"]
        row["efficiency"] = row["speedup_vs_dense"] * (1 - row["sparsity"])
        spread = {name: statistics(ms) for name, ms in peers.items()}
        row["baselines"] = {name: s["ms_median"] for name, s in spread.items()}
        row["baselines_spread"] = spread
        row["baselines_over_ours"] = {name: paired_ratio(ours, ms, self.rounds) for name, ms in peers.items()}
        self.rows.append(row)
        cells = [f"{name} {ms:.3f} ms ({row['baselines_over_ours'][name]:.2f}x)"
                 for name, ms in row["baselines"].items()]
        print(f"{label(row)}: {row['ms_median']:.3f} ms; {', '.join(cells)}", flush=True)


def label(row):
    if row["op"] in ("gemm_q", "gemm_o", "gemm-q", "gemm-o"):
        return f"{row['op']} {row['n']} x {row['in_features']} x {row['out_features']}"
    if row["op"] == "linear":
        return f"linear {row['n']} x {row['in_features']} x {row['out_features']}"
    if row["op"] == "generation":
        return f"dense generation, {generation.STEPS} steps"
    return f"attention {row['n']} x {row['heads']} x {row['head_dim']}, {row['pattern']} {row['sparsity']:.2f}"


def measure_attention(flashomni, report, rounds):
    for n, heads, head_dim, repeats, sparse in ATTENTION:
        sweep = ["--pattern", "s_s", "--sparsity", ",".join(map(str, SPARSITIES))] if sparse else ["--dense-only"]
        wanted = [0.0] + (SPARSITIES if sparse else [])
        warm = flashomni.warm("bench", "attention", "--n", n, "--heads", heads, "--head-dim", head_dim, "--block",
                              BLOCK, "--seed", SEED, "--repeats", repeats, *sweep)

        def ours():
            return {("ours", s): ms for s, ms in zip(wanted, warm(), strict=True)}

        q, k, v = kernels.attention_inputs(n, heads, head_dim, SEED)
        contestants = {"ours": ours, ("pytorch_sdpa", 0.0): timed(kernels.sdpa(q, k, v), repeats)}
        if sparse:
            flex = kernels.FlexAttention(BLOCK)
            for s in [0.0] + SPARSITIES:
                keep = kernels.random_blocks(heads, n // BLOCK, s, SEED)
                try:
                    contestants["pytorch_flex", s] = timed(flex.call(q, k, v, keep), repeats)
                except kernels.Unavailable as failure:
                    report.unavailable[f"pytorch_flex {n} x {heads} x {head_dim}, sparsity {s}"] = str(failure)
        samples = interleave(contestants, rounds)
        document = warm.close()
        report.take_head(document)
        for s, row in zip(wanted, document["rows"], strict=True):
            report.add(row, samples["ours", s],
                       {name: ms for (name, at), ms in samples.items() if at == s and name != "ours"})


def measure_linears(flashomni, report, rounds):
    for m in LINEAR_ROWS:
        for k in LINEAR_WIDTHS:
            for n in LINEAR_WIDTHS:
                repeats = max(1, min(15, int(2e10 / (2 * m * k * n))))
                warm = flashomni.warm("bench", "linear", "--n", m, "--in", k, "--out", n, "--seed", SEED, "--repeats",
                                      repeats)
                calls = kernels.linears(*kernels.linear_inputs(m, k, n, SEED))
                contestants = {"ours": lambda: warm()[0],
                               **{name: timed(call, repeats) for name, call in calls.items()}}
                samples = interleave(contestants, rounds)
                document = warm.close()
                report.take_head(document)
                report.add(document["rows"][0], samples.pop("ours"), samples)


def measure_bf16(flashomni, report, rounds):
    """Linear layers, GEMM-Q, GEMM-O and a dense generation with `--isa AMX`, beside our own in f32 and PyTorch's
    bf16 layers."""
    def side_by_side(op, args, find, peers):
        rows = {}

        def ours(isa):
            def run():
                doc = flashomni("bench", op, *args, "--isa", isa)
                rows[isa] = next(row for row in doc["rows"] if find(row))
                if isa == "AMX":
                    report.take_head(doc)
                return rows[isa]["ms_samples"]
            return run

        samples = interleave({"ours": ours("AMX"), "ours_f32": ours("AVX3"), **peers}, rounds)
        report.add(rows["AMX"], samples.pop("ours"), samples)

    dense = lambda row: row["pattern"] == "dense"
    for m in LINEAR_ROWS:
        for width in LINEAR_WIDTHS:
            repeats = max(1, min(15, int(2e10 / (2 * m * width * width))))
            calls = kernels.bf16_linears(*kernels.linear_inputs(m, width, width, SEED))
            side_by_side("linear", ["--n", m, "--in", width, "--out", width, "--seed", SEED, "--repeats", repeats],
                         dense, {name: timed(call, repeats) for name, call in calls.items()})
    for op in ("gemm-q", "gemm-o"):
        side_by_side(op, ["--n", 4608, "--seed", SEED, "--repeats", 3, "--dense-only"], dense, {})
    side_by_side("e2e", [*generation.SAME_REQUEST, "--repeats", 2], lambda row: row["op"] == "generation", {})


def measure_generation(flashomni, report, rounds):
    """Checks that PyTorch and flashomni compute the same before timing either."""
    theirs = generation.Generation(ROOT)
    error = theirs.worst_error()
    pixels = generation.largest_pixel_difference(flashomni, theirs)
    if not (error < 1e-4 and pixels <= 1):
        raise SystemExit(f"the PyTorch model differs: {error:.2g} from the golden values and {pixels} of 255 from "
                         "our picture, wanted below 1e-4 and at most 1")
    rows = []

    def ours():
        doc = flashomni("bench", "e2e", *generation.SAME_REQUEST, "--repeats", 2)
        report.take_head(doc)
        rows[:] = [row for row in doc["rows"] if row["op"] == "generation"]
        return rows[0]["ms_samples"]

    def of(**how):
        def contestant():
            theirs.run(**how)
            return [1e3 * theirs.run(**how)[1] for _ in range(2)]
        return contestant

    contestants = {"ours": ours, "pytorch_eager": of(), "pytorch_eager_batched": of(batched=True)}
    # Freezing packs the weights while compiling, as ours does while loading.
    for name, batched, options in (("pytorch_compile", False, {}), ("pytorch_compile_batched", True, {}),
                                   ("pytorch_compile_frozen", False, {"freezing": True})):
        try:
            compiled = torch.compile(theirs.model, dynamic=False, options=options)
            worst = (theirs.run(compiled, batched)[0] - theirs.run()[0]).abs().max().item()
            if not worst < 1e-3:
                raise kernels.Unavailable(f"wrong result: differs by {worst:.2g}, wanted below 1e-3")
            contestants[name] = of(model=compiled, batched=batched)
        except Exception as failure:  # the compiler fails in many ways, and any of them is an answer
            report.unavailable[name] = kernels.first_line(failure)
    samples = interleave(contestants, rounds)
    report.add(rows[0], samples.pop("ours"), samples)
    report.rows[-1]["agreement"] = {"golden_error": error, "largest_pixel_difference": pixels}


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")


def libraries():
    lines = torch.__config__.show().splitlines()
    return {"python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "onednn": next((l.strip(" -") for l in lines if "MKL-DNN" in l), "not built in"),
            "mkl": next((l.strip(" -") for l in lines if "Math Kernel" in l), "not built in"),
            "cpu_capability": torch.backends.cpu.get_cpu_capability()}


def print_table(document):
    """Markdown, for docs/performance.md. The last column is the best peer's time over ours, paired by round."""
    print("| shape | ours, ms (p10 - p90) | GFLOP/s | of peak | efficiency | peers, ms | best peer / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in document["rows"]:
        peers = sorted(row["baselines"].items(), key=lambda item: item[1])
        # Older results have no paired ratios.
        ratios = row.get("baselines_over_ours", {name: ms / row["ms_median"] for name, ms in peers})
        ratio = f"{min(ratios.values()):.2f}x" if ratios else "-"
        print(f"| {label(row)} | {row['ms_median']:.2f} ({row['ms_p10']:.2f} - {row['ms_p90']:.2f}) "
              f"| {1e3 * row['tflops_active']:.0f} | {row['tflops_active'] / document['peak_tflops']:.0%} "
              f"| {'-' if row['pattern'] == 'dense' else format(row['efficiency'], '.2f')} "
              f"| {', '.join(f'{name} {ms:.2f}' for name, ms in peers) or '-'} | {ratio} |")
    for name, why in document["unavailable"].items():
        print(f"{name} did not run: {why}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flashomni", default=os.path.join("build", "release", "bin", "flashomni"), metavar="PROGRAM")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="times that every contestant runs")
    parser.add_argument("--only", choices=["attention", "linear", "generation", "bf16"], action="append",
                        help="bf16 (wants AMX) runs only when asked for")
    date = datetime.datetime.now(datetime.timezone.utc)
    results = os.path.join("bench", "results", f"{date:%Y-%m-%d}-cpu-peers.json")
    parser.add_argument("--json", default=results, metavar="FILE")
    parser.add_argument("--table", metavar="FILE", help="only print the table of these results again")
    args = parser.parse_args()
    if args.table:
        with open(args.table) as file:
            print_table(json.load(file))
        return

    torch.set_num_threads(args.threads)
    flashomni, report = Flashomni(args.flashomni, args.threads), Report(args.rounds)
    measures = {"attention": measure_attention, "linear": measure_linears, "generation": measure_generation,
                "bf16": measure_bf16}
    with torch.inference_mode():
        for name in args.only or ["attention", "linear", "generation"]:
            measures[name](flashomni, report, args.rounds)
    # Folders of the machine that it ran on say nothing to others.
    command = [os.path.relpath(sys.argv[0]), *(re.sub(r"^/.*/", "", word) for word in sys.argv[1:])]
    document = {"command": shlex.join(command),
                "commit": report.commit,
                "date": f"{date:%Y-%m-%dT%H:%M:%SZ}",
                "machine": {**report.machine, "cpu": cpu_name(), "threads_of_peers": torch.get_num_threads()},
                "versions": libraries(),
                "peak_tflops": float(numpy.median(report.peaks)),
                "our_commands": flashomni.commands,
                "unavailable": report.unavailable,
                "rows": report.rows}
    print()
    print_table(document)
    with open(args.json + ".tmp", "w") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    os.replace(args.json + ".tmp", args.json)
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots from the JSON of `flashomni bench attention` at several lengths, for docs/performance.md:
speed-up over sparsity, TFLOP/s over length, and the break-even map (from which sparsity on a sparse
call, alone or with the symbols built for it, takes less time than a dense one).

  bench/plots.py OUT_PREFIX ATTENTION.json [MORE.json ...] [--symbols SYMBOLS.json ...]

Writes OUT_PREFIX-speedup.png and OUT_PREFIX-rate.png and prints the map as Markdown. Needs matplotlib.
"""
import argparse
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

PATTERNS = {"s_s": "-", "s_c": "--"}
CALLS_PER_BUILD = 5  # Dispatch steps that use the symbols of one Update


def load(paths, op):
    """{(tokens, heads, head_dim): [rows]}, dense first."""
    shapes = {}
    for path in paths:
        with open(path) as file:
            for row in json.load(file)["rows"]:
                if row["op"] == op:
                    shapes.setdefault((row["n"], row["heads"], row["head_dim"]), []).append(row)
    return dict(sorted(shapes.items()))


def curve(rows, pattern):
    points = sorted((r["sparsity"], r["speedup_vs_dense"]) for r in rows if r["pattern"] == pattern)
    return [s for s, _ in points], [x for _, x in points]


def break_even(rows, pattern, extra_ms):
    """The smallest sparsity from which on all measured calls are faster, between measured points linearly."""
    dense = rows[0]["ms_median"]
    points = sorted((r["sparsity"], r["ms_median"] + extra_ms) for r in rows if r["pattern"] == pattern)
    if not points or points[-1][1] >= dense:
        return None
    last = len(points) - 1
    while last > 0 and points[last - 1][1] < dense:
        last -= 1
    if last == 0:
        return points[0][0]
    (s0, t0), (s1, t1) = points[last - 1], points[last]
    return s0 + (s1 - s0) * (t0 - dense) / (t0 - t1)


def plot_speedup(shapes, path):
    figure, axes = plt.subplots(figsize=(7, 5))
    for colour, ((n, heads, d), rows) in zip(plt.cm.viridis([0, .2, .4, .6, .75, .9]), shapes.items()):
        for pattern, line in PATTERNS.items():
            xs, ys = curve(rows, pattern)
            if xs:
                axes.plot(xs, ys, line, color=colour, marker="o", markersize=3, label=f"{n} x {heads} x {d}, {pattern}")
    ideal = [i / 100 for i in range(91)]
    axes.plot(ideal, [1 / (1 - s) for s in ideal], ":", color="grey", label="1 / (1 - s)")
    axes.set(xlabel="sparsity", ylabel="speed-up over dense", yscale="log", yticks=[1, 2, 4, 8],
             yticklabels=["1", "2", "4", "8"])
    axes.grid(alpha=.3)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def plot_rate(shapes, path):
    figure, axes = plt.subplots(figsize=(7, 4))
    for (pattern, wanted), style in {("dense", 0): "o-", ("s_s", .5): "s-", ("s_c", .5): "s--", ("s_s", .75): "^-",
                                     ("s_c", .75): "^--"}.items():
        points = [(n, r["tflops_active"]) for (n, _, _), rows in shapes.items() for r in rows
                  if r["pattern"] == pattern and abs(r["sparsity"] - wanted) < .02]
        if points:
            axes.plot(*zip(*points), style, label=pattern + (f" {wanted:.0%}" if wanted else ""))
    axes.set(xlabel="tokens", ylabel="TFLOP/s of the work that is left", xscale="log", ylim=(0, None))
    ticks = [n for n, _, _ in shapes]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.grid(alpha=.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix")
    parser.add_argument("attention", nargs="+")
    parser.add_argument("--symbols", nargs="*", default=[])
    args = parser.parse_args()
    shapes = load(args.attention, "attention")
    builds = {shape: rows[0]["ms_median"] for shape, rows in load(args.symbols, "symbols").items()}
    plot_speedup(shapes, args.prefix + "-speedup.png")
    plot_rate(shapes, args.prefix + "-rate.png")
    print("| tokens, heads x head_dim | S_s | S_c | S_s, with symbols | S_c, with symbols |")
    print("| --- | --- | --- | --- | --- |")
    for shape, rows in shapes.items():
        cells = []
        for extra in (0, builds.get(shape)):
            for pattern in PATTERNS:
                at = None if extra is None else break_even(rows, pattern, extra / CALLS_PER_BUILD)
                cells.append("-" if at is None else f"{at:.3f}")
        print(f"| {shape[0]}, {shape[1]} x {shape[2]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

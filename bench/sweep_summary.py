#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One small JSON, a Markdown table and a plot from the folders of a `flashomni sweep` (or of the parts of one).

    bench/sweep_summary.py --json OUT.json --table out/pareto/part-*
    bench/sweep_summary.py --plot OUT.png SPARSITY.json SECONDS.json      (from two such JSON files)

Only prompts that every config has finished count, so that all rows are means over the same pictures: the
parts of a sweep that was stopped give what they have. Seconds are means, the speed-up is their ratio.
"""

import argparse
import collections
import json
import math
import pathlib
import statistics
import sys


def identity(choice):
    return choice["strategy"], json.dumps(choice.get("options", {}), sort_keys=True)


def read(folders):
    """(one part's sweep.json, {config: {point: figures}})."""
    docs = [json.loads((f / "sweep.json").read_text(encoding="utf-8")) for f in folders]
    runs = collections.defaultdict(dict)
    for folder in folders:
        for line in (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()[1:]:
            trial = json.loads(line)
            point = (trial["prompt"], trial["seed"])
            if not trial["key"].startswith("dense"):
                runs[identity(trial["strategy"])][point] = trial["figures"]
    for doc in docs[1:]:
        if doc["machine"] != docs[0]["machine"] or doc["settings"] != docs[0]["settings"]:
            sys.exit("the folders are of different machines or settings")
    return docs[0], runs


def summary(folders, without):
    doc, runs = read(folders)
    configs = [
        (c["label"], c["curve"], c["config"]) for c in doc["configs"] if not any(w in c["label"] for w in without)
    ]
    points = set.intersection(*(set(runs[identity(c)]) for _, _, c in configs))
    if not points:
        sys.exit("no prompt has been run with every config")
    rows = []
    for label, curve, config in configs:
        figures = [runs[identity(config)][p] for p in sorted(points)]
        psnr = [math.inf if f["identical"] else f["psnr_db"] for f in figures]
        seconds = statistics.fmean(f["seconds"] for f in figures)
        dense = statistics.fmean(f["dense_seconds"] for f in figures)
        rows.append({
            "label": label, "curve": curve, "config": config, "psnr_db": statistics.fmean(psnr),
            "psnr_standard_error_db": statistics.stdev(psnr) / len(psnr) ** 0.5 if len(psnr) > 1 else 0.0,
            "ssim": statistics.fmean(f["ssim"] for f in figures),
            "attention_sparsity": statistics.fmean(f["attention_sparsity"] for f in figures),
            "flops_skipped_share": statistics.fmean(f["flops_skipped_share"] for f in figures),
            "seconds": seconds, "dense_seconds": dense, "speedup": dense / seconds,
        })  # fmt: skip
    return {
        "command": doc["command"], "commit": doc["commit"], "machine": doc["machine"], "settings": doc["settings"],
        "parts": len(folders), "left_out": without, "prompts": sorted(p for p, _ in points), "rows": rows,
    }  # fmt: skip


def table(result):
    lines = [
        "| setting | attention left out | PSNR dB | SSIM | FLOPs left out | speed-up |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in sorted(result["rows"], key=lambda r: (r["curve"], r["attention_sparsity"])):
        lines.append(
            f"| {r['label']} | {100 * r['attention_sparsity']:.1f} % | {r['psnr_db']:.1f} ± "
            f"{r['psnr_standard_error_db']:.1f} | {r['ssim']:.3f} | {100 * r['flops_skipped_share']:.0f} % "
            f"| {r['speedup']:.2f}x |"
        )
    return "\n".join(lines)


def plot(paths, out):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = [("attention_sparsity", "attention left out"), ("speedup", "speed-up over dense")]
    figure, panels = plt.subplots(1, len(paths), figsize=(7 * len(paths), 6), squeeze=False)
    names = sorted({r["curve"] for p in paths for r in json.loads(p.read_text(encoding="utf-8"))["rows"]})
    colour = {name: plt.get_cmap("tab20")(i % 20) for i, name in enumerate(names)}
    marks = {name: "osD^vP"[i // 20 * 3 + i % 3] for i, name in enumerate(names)}
    for panel, path, (x, x_label) in zip(panels[0], paths, axes, strict=False):
        result = json.loads(path.read_text(encoding="utf-8"))
        for name in names:
            rows = sorted((r for r in result["rows"] if r["curve"] == name), key=lambda r: r[x])
            front = [r for r in rows if not any(o[x] >= r[x] and o["psnr_db"] > r["psnr_db"] for o in rows)]
            style = {"color": colour[name], "linewidth": 2.5 if name.startswith("flashomni") else 1}
            panel.plot([r[x] for r in front], [r["psnr_db"] for r in front], "-", **style)
            panel.plot([r[x] for r in rows], [r["psnr_db"] for r in rows], marks[name], color=colour[name], label=name)
        panel.set_xlabel(x_label)
        panel.set_ylabel("PSNR to dense, dB")
        device = result["machine"]["device"]
        panel.set_title(f"{len(result['prompts'])} prompts, {result['settings']['steps']} steps, {device}", fontsize=10)
        panel.grid(alpha=0.3)
    panels[0][-1].legend(fontsize=7, ncol=2)
    figure.tight_layout()
    figure.savefig(out, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("inputs", type=pathlib.Path, nargs="+", help="folders of sweeps, or JSON files with --plot")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--without", action="append", default=[], metavar="TEXT",
                        help="leave out rows with this in their label: configs that were added to a finished sweep, "
                        "far from their dense runs in time, have no fair seconds")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="print the Markdown table")
    parser.add_argument("--plot", type=pathlib.Path, help="PNG: PSNR over sparsity, and of a second file over speed-up")
    args = parser.parse_args()
    if args.plot:
        plot(args.inputs, args.plot)
        return
    result = summary(args.inputs, args.without)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.table:
        print(table(result))


if __name__ == "__main__":
    main()

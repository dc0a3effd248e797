#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Markdown tables from the JSON of `flashomni compare`, for docs/performance.md.

  bench/tables.py bench/results/*-steps.json
"""
import json
import sys


def row(cells):
    return "| " + " | ".join(cells) + " |"


def figures(f):
    psnr = "inf" if f.get("identical") else f"{f['psnr_db']:.2f}"
    return [
        f"{f['dense']['seconds']:.2f}", f"{f['sparse']['seconds']:.2f}", f"{f['speedup']:.2f}x", psnr,
        f"{f['ssim']:.4f}", f"{f['attention_sparsity']:.3f}", f"{f['dispatch_sparsity']:.3f}",
        f"{f['gemm_q_sparsity']:.3f}", f"{f['degraded_share']:.3f}", f"{f['peak_cache_bytes'] / 2**20:.0f}"
    ]


HEAD = ["dense s", "sparse s", "speed-up", "PSNR dB", "SSIM", "attention", "dispatch", "GEMM-Q/O", "degraded", "cache MiB"]


def main():
    head = None
    for path in sys.argv[1:]:
        with open(path) as file:
            doc = json.load(file)
        name = f"{doc['strategy'].get('preset') or 'own options'}, {doc['settings']['steps']} steps"
        new_head = ["", *HEAD, "worst PSNR"]
        if head != new_head:
            head = new_head
            print(row(head))
            print(row(["---"] * len(head)))
        worst = min((p["psnr_db"] for p in doc["prompts"] if p["psnr_db"] is not None), default=float("inf"))
        print(row([name, *figures(doc), f"{worst:.1f}"]))
        for stage in doc.get("ablation", []):
            stage.setdefault("dense", doc["dense"])
            stage.setdefault("sparse", {"seconds": stage.get("seconds", 0)})
            stage.setdefault("speedup", doc["dense"]["seconds"] / stage["sparse"]["seconds"])
            print(row([stage["stage"], *figures(stage), ""]))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each option of `flashomni` costs and buys: one changed at a time around a base.

  bench/sensitivity.py config > sensitivity.json         the configs, for flashomni sweep
  bench/sensitivity.py table sweep.json > docs/...md     the table, from what the sweep wrote
"""
import json
import sys

# Warm-up and interval are for a run of 20 steps.
BASE = {
    "schedule_steps": 20, "warmup": 4, "interval": 3, "order": 1, "tau_q": 0.9, "tau_kv": 0.1, "ramp": 1.0,
    "S_q": 0.0, "block_q": 64, "block_kv": 64
}  # fmt: skip

# Name in the paper, what it is, and the options of every variant.
AXES = [
    ("N", "steps between Updates", [{"interval": n} for n in (2, 4, 6)]),
    ("D", "Taylor order", [{"order": d} for d in (0, 2, 3)]),
    ("W", "warm-up steps", [{"warmup": w} for w in (2, 6, 8)]),
    ("tau_q", "share of rows cached", [{"tau_q": t} for t in (0.0, 0.5, 1.0)]),
    ("tau_kv", "share of blocks skipped", [{"tau_kv": t} for t in (0.0, 0.3)]),
    ("ramp", "growth of both thresholds", [{"ramp": r} for r in (0.0, 2.0)]),
    ("S_q", "rows at which a layer is reused whole", [{"S_q": s} for s in (0.4, 0.7)]),
    ("block", "tokens of a block", [{"block_q": b, "block_kv": b} for b in (32, 128)]),
    ("pooling", "how blocks are scored",
     [{"text_score": "softmax_of_sum"}, {"smooth_k": True}, {"sim_gate": True}]),
    ("residual", "skipped blocks made up for, order 0", [{"residual": True}]),
]  # fmt: skip


def label(change):
    return ", ".join(f"{name} {json.dumps(value).strip(chr(34))}" for name, value in change.items())


def config():
    configs = [{"strategy": "flashomni", "label": "base", "options": BASE}]
    for _, _, variants in AXES:
        for change in variants:
            configs.append({"strategy": "flashomni", "label": label(change), "options": {**BASE, **change}})
    return {"comment": "one option at a time around a base", "configs": configs}


def signed(value, decimals, unit=""):
    return f"{value:+.{decimals}f}{unit}"


def table(doc):
    rows = {c["label"]: c for c in doc["configs"] if c["runs"]}
    base = rows["base"]
    settings = doc.get("settings") or {}
    lines = [
        "| option | what it is | value | PSNR dB | SSIM | attention left out | FLOPs left out | cache MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]

    def cells(name, what, value, row, reference):
        psnr = "equal" if row["identical"] else f"{row['psnr_db']:.2f}"
        delta = ""
        if reference and not row["identical"]:
            delta = f" ({signed(row['psnr_db'] - reference['psnr_db'], 2)})"
        share = lambda key: f"{100 * row[key]:.1f} %" + (
            f" ({signed(100 * (row[key] - reference[key]), 1)})" if reference else "")
        return (f"| {name} | {what} | {value} | {psnr}{delta} | {row['ssim']:.4f} | "
                f"{share('attention_sparsity')} | {share('flops_skipped_share')} | "
                f"{row['peak_cache_bytes'] / 2**20:.0f} |")

    lines.append(cells("base", "", "", base, None))
    for name, what, variants in AXES:
        for change in variants:
            if label(change) in rows:
                lines.append(cells(f"`{name}`", what, label(change), rows[label(change)], base))
    prompts = max(c["runs"] for c in rows.values())
    head = [
        "# What each option costs and buys", "",
        "One option of `flashomni` changed at a time on the bundled model; in brackets the difference from the base. "
        f"Means over {prompts} pictures" + (f", {settings['steps']} steps" if settings else "") +
        f", commit {doc['commit']}. Made by `bench/sensitivity.sh`.", "",
        "Base: " + ", ".join(f"{k} {v}" for k, v in BASE.items()) +
        ". Warm-up and interval are for 20 steps. Seconds are left out: the machine was "
        "shared while this ran, shares are exact.", ""
    ]
    return "\n".join(head + lines) + "\n"


def main():
    if sys.argv[1:] == ["config"]:
        print(json.dumps(config(), indent=2))
    elif len(sys.argv) == 3 and sys.argv[1] == "table":
        with open(sys.argv[2]) as file:
            print(table(json.load(file)), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

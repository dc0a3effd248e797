#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each option of `flashomni` costs and buys: one changed at a time around a base.

  bench/sensitivity.py config > sensitivity.json         the configs, for flashomni sweep
  bench/sensitivity.py config --gpu > ...                those that a GPU runs: no blocks of 32 tokens
  bench/sensitivity.py config --not-gpu > ...            the base and what a GPU does not run
  bench/sensitivity.py table sweep.json > docs/...md     the table, from what the sweep wrote
  bench/sensitivity.py table sweep.json other.json > ... rows that sweep.json lacks come from a second
                                                         sweep, against the base of that one
"""
import json
import pathlib
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


def config(wanted):
    configs = [{"strategy": "flashomni", "label": "base", "options": BASE}]
    for _, _, variants in AXES:
        for change in variants:
            on_gpu = change.get("block_q") != 32  # no kernel there
            if wanted == "--gpu" and not on_gpu or wanted == "--not-gpu" and on_gpu:
                continue
            configs.append({"strategy": "flashomni", "label": label(change), "options": {**BASE, **change}})
    return {"comment": "one option at a time around a base", "configs": configs}


def signed(value, decimals, unit=""):
    return f"{value:+.{decimals}f}{unit}"


def rows_of(doc):
    return {c["label"]: c for c in doc["configs"] if c["runs"]}


def pictures(doc):
    return max(c["runs"] for c in doc["configs"])


def table(doc, second=None):
    rows, base = rows_of(doc), rows_of(doc)["base"]
    others = rows_of(second) if second else {}
    if second and (second.get("settings") != doc.get("settings") or pictures(second) != pictures(doc)):
        sys.exit(f"the sweeps differ: {pictures(doc)} pictures with {doc.get('settings')}, "
                 f"{pictures(second)} with {second.get('settings')}")
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
            elif label(change) in others:
                value = f"{label(change)} (on the {second['machine']['backend'].upper()})"
                lines.append(cells(f"`{name}`", what, value, others[label(change)], others["base"]))
    head = [
        "# What each option costs and buys", "",
        "One option of `flashomni` changed at a time on the bundled model; in brackets the difference from the base. "
        f"Means over {pictures(doc)} pictures" + (f", {settings['steps']} steps" if settings else "") +
        f", commit {doc['commit']}. Made by `bench/sensitivity.sh"
        f"{' --device cuda' if doc['machine']['backend'] == 'cuda' else ''}` on {doc['machine']['device']}.", "",
        "Base: " + ", ".join(f"{k} {v}" for k, v in BASE.items()) +
        ". Warm-up and interval are for 20 steps. Seconds are left out: the machine was "
        "shared while this ran, shares are exact.", ""
    ]
    if second:
        own = others["base"]
        head += [
            f"Rows \"on the {second['machine']['backend'].upper()}\" ran on {second['machine']['device']}, commit "
            f"{second['commit']}; their differences are from that machine's own base, {own['psnr_db']:.2f} dB, SSIM "
            f"{own['ssim']:.4f}, {100 * own['attention_sparsity']:.1f} % of attention and "
            f"{100 * own['flops_skipped_share']:.1f} % of FLOPs left out.", ""
        ]
    return "\n".join(head + lines) + "\n"


def main():
    if sys.argv[1:] in (["config"], ["config", "--gpu"], ["config", "--not-gpu"]):
        print(json.dumps(config(sys.argv[-1]), indent=2))
    elif len(sys.argv) in (3, 4) and sys.argv[1] == "table":
        sweeps = [json.loads(pathlib.Path(name).read_text()) for name in sys.argv[2:]]
        print(table(*sweeps), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

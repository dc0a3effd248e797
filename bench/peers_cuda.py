#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attention on a GPU beside PyTorch's, in one run on one machine.

  bench/peers_cuda.py --flashomni build/release/bin/flashomni --out bench/results/DATE-GPU-attention.json

Runs `flashomni bench attention --device cuda` and PyTorch's scaled_dot_product_attention (cuDNN and
FlashAttention) on the same shapes and element type, in turns; each figure is the median over the
turns. Adds `baselines` {name: ms} to every dense row and prints a table. Needs PyTorch with CUDA.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SHAPES = [(4608, 24, 128), (16896, 24, 128), (33280, 24, 128), (16896, 24, 64), (16896, 24, 96)]
PEERS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash_attention_2": SDPBackend.FLASH_ATTENTION}
FIELDS = ("ms_median", "ms_p10", "ms_p90", "speedup_vs_dense", "efficiency", "tflops_active")


def run_ours(args, n, heads, head_dim):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bench.json"
        command = [
            args.flashomni, "bench", "attention", "--device", "cuda", "--dtype", "bf16", "--n", n, "--heads", heads,
            "--head-dim", head_dim, "--block", args.block, "--repeats", args.repeats, "--quiet", "--json", path
        ]
        if (n, heads, head_dim) not in SHAPES[:3]:
            command.append("--dense-only")
        subprocess.run([str(c) for c in command], check=True)
        return json.loads(path.read_text())


def run_peer(backend, n, heads, head_dim, repeats):
    shape = (1, n, heads, head_dim)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16).transpose(1, 2) for _ in range(3))
    samples = []
    with sdpa_kernel(backend):
        for i in range(repeats + 2):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            torch.nn.functional.scaled_dot_product_attention(q, k, v)
            end.record()
            end.synchronize()
            if i >= 2:
                samples.append(begin.elapsed_time(end))
    return statistics.median(samples)


def sm_clock():
    query = ["nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def merge(documents):
    """Medians over the turns of every row."""
    out = documents[0]
    for i, row in enumerate(out["rows"]):
        for field in FIELDS:
            values = [d["rows"][i][field] for d in documents if field in d["rows"][i]]
            if values:
                row[field] = statistics.median(values)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flashomni", default="build/release/bin/flashomni")
    parser.add_argument("--out", required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--block", type=int, default=128, choices=(64, 128))
    args = parser.parse_args()

    result = None
    for n, heads, head_dim in SHAPES:
        ours, peers, clocks = [], {name: [] for name in PEERS}, []
        for _ in range(args.turns):
            ours.append(run_ours(args, n, heads, head_dim))
            clocks.append(sm_clock())
            for name, backend in PEERS.items():
                peers[name].append(run_peer(backend, n, heads, head_dim, args.repeats))
            clocks.append(sm_clock())
        document = merge(ours)
        dense = document["rows"][0]
        dense["baselines"] = {name: statistics.median(times) for name, times in peers.items()}
        dense["clocks"] = clocks
        flops = 4e-9 * n * n * heads * head_dim
        for row in document["rows"]:
            rate = flops * (1 - row["sparsity"]) / row["ms_median"]
            beside = ", ".join(f"{k} {v:.3f} ms ({flops / v:.0f})" for k, v in row.get("baselines", {}).items())
            print(f"n {n} d {head_dim} {row['pattern']:6} s {row['sparsity']:.2f}: {row['ms_median']:.3f} ms, "
                  f"{rate:.0f} TFLOP/s, efficiency {row['efficiency']:.3f}  {beside}", flush=True)
        if result is None:
            result = document
        else:
            result["rows"] += document["rows"]
    # Folders of the machine that it ran on say nothing to others.
    result["command"] = " ".join(re.sub(r"^/.*/", "", word) for word in sys.argv)
    result["peers"] = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                       "gpu": torch.cuda.get_device_name()}
    pathlib.Path(args.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

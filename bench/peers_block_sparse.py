#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Block-sparse attention on a GPU beside other kernels that take block masks: the same masks, in turns.

  bench/peers_block_sparse.py --out bench/results/DATE-GPU-block-sparse.json

Random masks of whole blocks of 128 x 128 with exact counts, bf16, 24 heads of 128, for flashomni.attention,
FlexAttention (compiled), and, where they can be imported, FlashAttention 4 (flash-attn-4 of PyPI) and FlashInfer
(flashinfer-python of PyPI); each also runs dense, beside PyTorch's attention by cuDNN. A sample is calls back to
back after a warm-up of the same calls, so that every kernel runs at the clock that the power limit leaves it; the
figures are medians over turns. What the libraries return is compared. Needs PyTorch with CUDA and the flashomni package.
"""
import argparse
import datetime
import json
import pathlib
import re
import statistics
import subprocess
import sys

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import flashomni

HEADS, HEAD_DIM, BLOCK = 24, 128, 128
TOKENS = (4608, 16896, 33280)
SPARSITIES = (0.25, 0.5, 0.75, 0.9)
WARM_MS, SAMPLE_MS = 150, 60


def random_mask(rng, tokens, sparsity):
    """[heads, blocks, blocks] with round(sparsity * all) zeros; a row of zeros gets its first block back."""
    blocks = tokens // BLOCK
    flat = np.ones(HEADS * blocks * blocks, dtype=bool)
    flat[rng.permutation(flat.size)[:round(sparsity * flat.size)]] = False
    mask = flat.reshape(HEADS, blocks, blocks)
    mask[..., 0] |= ~mask.any(-1)
    return mask


# Every peer: bind(q, k, v [1, tokens, heads, head_dim], mask or None) gives a function without arguments.
class FlashOmni:
    def bind(self, q, k, v, mask):
        symbols = None
        if mask is not None:
            symbols = flashomni.Symbols.from_block_mask(mask[None], q.shape[1], block=BLOCK).to("cuda")
        return lambda: flashomni.attention(q, k, v, symbols)


class CuDnn:
    def bind(self, q, k, v, mask):
        if mask is not None:
            return None
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))

        def run():
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

        return run


class Flex:
    def __init__(self):
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        self.call, self.BlockMask = torch.compile(flex_attention, dynamic=False), BlockMask

    def bind(self, q, k, v, mask):
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        blocks = None
        if mask is not None:
            count, order = lists(mask)
            blocks = self.BlockMask.from_kv_blocks(torch.zeros_like(count), order, count, order, BLOCK_SIZE=BLOCK)
        return lambda: self.call(q, k, v, block_mask=blocks).transpose(1, 2)


class FlashAttention4:
    def __init__(self):
        from flash_attn.cute.block_sparsity import BlockSparseTensorsTorch
        from flash_attn.cute.interface import flash_attn_func

        self.call, self.Tensors = flash_attn_func, BlockSparseTensorsTorch

    def bind(self, q, k, v, mask):
        sparse = None
        if mask is not None:
            count, order = lists(mask)
            sparse = self.Tensors(torch.zeros_like(count), order, count, order, block_size=(BLOCK, BLOCK))

        def run():
            out = self.call(q, k, v, block_sparse_tensors=sparse)
            return out[0] if isinstance(out, tuple) else out

        return run


class FlashInfer:
    """VariableBlockSparseAttentionWrapper: a mask for each head. plan() makes its lists, run() reads heads first."""

    def __init__(self):
        import flashinfer

        self.lib = flashinfer
        self.work = torch.empty(128 << 20, dtype=torch.uint8, device="cuda")  # the calls follow each other

    def bind(self, q, k, v, mask):
        if mask is None:
            q, k, v = q[0], k[0], v[0]
            return lambda: self.lib.single_prefill_with_kv_cache(q, k, v, backend="fa3")[None]
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
        m = torch.from_numpy(mask).cuda()
        sizes = torch.full(m.shape[:2], BLOCK, dtype=torch.int32, device="cuda")
        wrapper = self.lib.VariableBlockSparseAttentionWrapper(self.work, backend="fa3")
        wrapper.plan(m, sizes, sizes, HEADS, HEADS, HEAD_DIM, q_data_type=torch.bfloat16)
        return lambda: wrapper.run(q, k, v).transpose(0, 1)[None]


PEERS = {"flex_attention": Flex, "flash_attention_4": FlashAttention4, "flashinfer": FlashInfer}


def run_for(call, ms):
    """Milliseconds of one call, of enough of them back to back to take so long."""
    repeats = 1
    while True:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        taken = begin.elapsed_time(end)
        if taken >= ms:
            return taken / repeats
        repeats = max(2 * repeats, int(1.1 * repeats * ms / max(taken, 1e-3)) + 1)


def time_call(call):
    run_for(call, WARM_MS)
    return run_for(call, SAMPLE_MS)


def lists(mask):
    """(set blocks of each row, their numbers first in each row) on the device."""
    m = torch.from_numpy(mask).cuda()[None]
    order = torch.argsort(m.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
    return m.sum(-1, dtype=torch.int32), order


def commit():
    command = ["git", "-C", pathlib.Path(__file__).parent, "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--commit", default=commit(), help="of the flashomni package (default: of this checkout)")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64

    peers, not_run = {"flashomni": FlashOmni(), "cudnn": CuDnn()}, {}
    for name, peer in PEERS.items():
        try:
            peers[name] = peer()
        except Exception as error:  # whatever an import throws is its reason
            not_run[name] = f"{type(error).__name__}: {error}"[:300]
    rng, rows = np.random.default_rng(1), []
    for tokens in args.tokens:
        masks = [None] + [random_mask(rng, tokens, s) for s in SPARSITIES]
        q, k, v = (torch.randn(1, tokens, HEADS, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        shares = [0.0 if m is None else 1 - m.mean() for m in masks]
        calls = [{} for _ in masks]  # by mask, of each peer
        differences = [{} for _ in masks]
        for i, mask in enumerate(masks):
            for name, peer in peers.items():
                try:
                    call = peer.bind(q, k, v, mask)
                    if call is None:
                        continue
                    out = call()
                    torch.cuda.synchronize()
                except Exception as error:
                    not_run[f"{name}, {tokens} tokens"] = f"{type(error).__name__}: {error}"[:300]
                    continue
                calls[i][name] = call
                if name == "flashomni":
                    wanted = out
                differences[i][name] = (out - wanted).abs().max().item()
                if not differences[i][name] < 0.05:
                    sys.exit(f"{tokens} tokens, mask {i}: {name} differs by {differences[i][name]}")
        times = [{name: [] for name in c} for c in calls]
        for _ in range(args.turns):
            for i, of in enumerate(calls):
                for name, call in of.items():
                    times[i][name].append(time_call(call))
        for i, share in enumerate(shares):
            ms = {name: statistics.median(samples) for name, samples in times[i].items()}
            rows.append({"n": tokens, "heads": HEADS, "head_dim": HEAD_DIM, "block": BLOCK, "sparsity": share, "ms": ms,
                         "ms_samples": times[i], "largest_difference_to_flashomni": differences[i]})
            if i == 0:
                dense = ms
            flops = 4e-9 * tokens * tokens * HEADS * HEAD_DIM * (1 - share)
            print(f"n {tokens} s {share:.2f}: " + ", ".join(
                f"{name} {t:.3f} ms ({flops / t:.0f} TFLOP/s, efficiency {dense[name] / t * (1 - share):.3f})"
                for name, t in ms.items()), flush=True)
    for name, why in not_run.items():
        print(f"not run: {name}: {why}")
    # Folders of the machine that it ran on say nothing to others.
    command = " ".join(re.sub(r"^/.*/", "", word) for word in sys.argv)
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "gpu": torch.cuda.get_device_name()}
    if "flash_attention_4" in peers:
        import importlib.metadata

        versions["flash-attn-4"] = importlib.metadata.version("flash-attn-4")
    if "flashinfer" in peers:
        versions["flashinfer-python"] = peers["flashinfer"].lib.__version__
    result = {"command": command, "commit": args.commit, "date": datetime.date.today().isoformat(), "peers": versions,
              "not_run": not_run, "rows": rows}
    pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

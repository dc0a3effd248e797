# SPDX-License-Identifier: Apache-2.0
"""Attention and linear layers of PyTorch and oneDNN on the shapes and data of `flashomni bench`: random
normal values, weights scaled by 1/sqrt(in). Each peer gets the memory layout it likes best."""
import torch
import torch.nn.functional as F


class Unavailable(Exception):
    """A peer cannot run here; the message says why."""


def first_line(failure):
    return f"{type(failure).__name__}: {str(failure).strip().splitlines()[0]}"


def attention_inputs(n, heads, head_dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, heads, n, head_dim, generator=generator) for _ in range(3)]


def sdpa(q, k, v):
    return lambda: F.scaled_dot_product_attention(q, k, v)


def random_blocks(heads, blocks, sparsity, seed):
    """[heads, blocks, blocks] of bool with an exact share of False, and at least one True a row."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(heads * blocks * blocks, dtype=torch.bool)
    keep[torch.randperm(keep.numel(), generator=generator)[:round(sparsity * keep.numel())]] = False
    keep = keep.view(heads, blocks, blocks)
    keep[..., 0] |= ~keep.any(-1)
    return keep


class FlexAttention:
    """torch.compile(flex_attention) under a block mask; the mask holds whole blocks only, so that no
    element of a score is ever masked."""

    def __init__(self, block):
        from torch.nn.attention.flex_attention import flex_attention
        self.block = block
        self.compiled = torch.compile(flex_attention, dynamic=False)

    def mask(self, keep):
        from torch.nn.attention.flex_attention import BlockMask
        count = keep.sum(-1).to(torch.int32)
        order = torch.argsort(keep.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
        none = torch.zeros_like(count)
        # "Partial" blocks would be masked element by element; all of ours are "full".
        return BlockMask.from_kv_blocks(none[None], order[None], count[None], order[None],
                                        BLOCK_SIZE=self.block)

    def call(self, q, k, v, keep):
        """A function that runs, after it was checked against SDPA with the same mask on one head."""
        mask = self.mask(keep)
        run = lambda: self.compiled(q, k, v, block_mask=mask)
        try:
            seen = run()[:, :1]
        except Exception as failure:  # the compiler fails in many ways, and any of them is an answer
            raise Unavailable(first_line(failure)) from failure
        dense = keep[:1].repeat_interleave(self.block, 1).repeat_interleave(self.block, 2)
        wanted = F.scaled_dot_product_attention(q[:, :1], k[:, :1], v[:, :1], attn_mask=dense[None])
        worst = (seen - wanted).abs().max().item()
        if not worst < 1e-4:
            raise Unavailable(f"wrong result: differs from SDPA by {worst:.2g}, wanted below 1e-4")
        return run


def linear_inputs(m, k, n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(m, k, generator=generator)
    w = torch.randn(n, k, generator=generator) / k**0.5
    return x, w, torch.randn(n, generator=generator)


def bf16_linears(x, w, b):
    """Like linears(), with the factors in bf16: all of it, and as a layer meets it between operations in f32."""
    wanted = F.linear(x, w, b)
    x16, w16, b16 = x.bfloat16(), w.bfloat16(), b.bfloat16()
    out = {"pytorch_bf16": lambda: F.linear(x16, w16, b16),
           "pytorch_bf16_to_f32": lambda: F.linear(x.bfloat16(), w16, b16).float()}
    for name, call in out.items():
        worst = (call().float() - wanted).abs().max().item()
        if not worst < 0.1:
            raise SystemExit(f"{name} differs from F.linear in f32 by {worst:.2g}, wanted below 0.1")
    return out


def linears(x, w, b):
    """{name: function} of every way to run the layer; the packed ones have their weight in the library's
    own layout already, as ours has."""
    wanted = F.linear(x, w, b)
    rows = x.shape[0]
    onednn = torch.ops.mkldnn._reorder_linear_weight(w, rows)
    mkl = torch.ops.mkl._mkl_reorder_linear_weight(w, rows)
    out = {"pytorch_linear": lambda: F.linear(x, w, b),
           "onednn_packed": lambda: torch.ops.mkldnn._linear_pointwise(x, onednn, b, "none", [], ""),
           "mkl_packed": lambda: torch.ops.mkl._mkl_linear(x, mkl, w, b, rows)}
    for name, call in out.items():
        worst = (call() - wanted).abs().max().item()
        if not worst < 1e-3:
            raise SystemExit(f"{name} differs from F.linear by {worst:.2g}, wanted below 1e-3")
    return out

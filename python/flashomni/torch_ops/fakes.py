# SPDX-License-Identifier: Apache-2.0
"""Shapes and types of what the operations return, for tracing, and their missing gradients."""

from __future__ import annotations

import torch
from torch.library import register_autograd, register_fake

from ..errors import UnsupportedError


def _words(n: int) -> int:
    return (n + 63) // 64


@register_fake("flashomni::plan")
def _plan(c, s, q_tokens, kv_tokens, block_q, block_kv):
    size = torch.library.get_ctx().new_dynamic_size(min=1)
    return c.new_empty((size,), dtype=torch.uint8)


@register_fake("flashomni::attention")
def _attention(q, k, v, c, s, plan, block_q, block_kv, every_row, scale, cached):
    return q.new_empty(q.shape)


@register_fake("flashomni::gemm_q")
def _gemm_q(
    x,
    weight,
    heads,
    head_dim,
    rms_weight,
    rms_eps,
    cos,
    sin,
    c,
    s,
    plan,
    block_q,
    block_kv,
    every_row,
    tokens,
    token_offset,
):
    return x.new_empty(
        (x.shape[0], tokens if tokens > 0 else token_offset + x.shape[1], heads, head_dim)
    )


@register_fake("flashomni::gemm_o")
def _gemm_o(
    attn,
    weight,
    width,
    mlp,
    planes,
    coefficients,
    c,
    s,
    plan,
    block_q,
    block_kv,
    rows,
    token_offset,
):
    if rows <= 0:
        rows = mlp.shape[1] if mlp is not None else attn.shape[1] - token_offset
    return attn.new_empty((attn.shape[0], rows, width))


@register_fake("flashomni::gemm_o_update")
def _gemm_o_update(factors, weight, width, mlp, c, s, plan, block_q, block_kv):
    planes, batch, tokens = factors.shape[:3]
    return (
        factors.new_empty((batch, tokens, width)),
        factors.new_empty(
            (planes, batch, tokens, width),
            dtype=torch.float32 if factors.device.type == "cpu" else factors.dtype,
        ),
    )


@register_fake("flashomni::pool")
def _pool(x, block, subtract_mean):
    return x.new_empty(
        (x.shape[0], x.shape[2], (x.shape[1] + block - 1) // block, x.shape[3]), dtype=torch.float32
    )


@register_fake("flashomni::block_scores")
def _block_scores(q, k, scale):
    return q.new_empty((q.shape[0], q.shape[1], q.shape[2], k.shape[2]), dtype=torch.float32)


@register_fake("flashomni::select_symbols")
def _select_symbols(
    scores,
    q_tokens,
    kv_tokens,
    block_q,
    block_kv,
    text_begin,
    text_end,
    cache_theta,
    text_score,
    rule,
    parameter,
    protect_text,
):
    b, h, nq, nkv = scores.shape
    return (
        scores.new_empty((b, h, _words(nq)), dtype=torch.int64),
        scores.new_empty((b, h, nq, _words(nkv)), dtype=torch.int64),
    )


@register_fake("flashomni::pack_mask")
def _pack_mask(mask):
    return mask.new_empty((*mask.shape[:-1], _words(mask.shape[-1])), dtype=torch.int64)


@register_fake("flashomni::unpack_words")
def _unpack_words(words, count):
    return words.new_empty((*words.shape[:-1], count), dtype=torch.bool)


@register_fake("flashomni::session_project_qkv")
def _session_project_qkv(
    xs, offsets, cos, sin, session, layer, tokens, heads, head_dim, text_begin, text_end, mask
):
    # On the CPU these compute in float32, whatever the model's type.
    dtype = torch.float32 if xs[0].device.type == "cpu" else xs[0].dtype
    return tuple(
        xs[0].new_empty((xs[0].shape[0], tokens, heads, head_dim), dtype=dtype) for _ in range(3)
    )


@register_fake("flashomni::session_attention")
def _session_attention(q, k, v, session, layer, text_begin, text_end, mask):
    return q.new_empty(q.shape)


@register_fake("flashomni::session_project_out")
def _session_project_out(attn, mlp, session, layer, part, offset, rows, width):
    return attn.new_empty((attn.shape[0], rows, width))


@register_fake("flashomni::session_store_module")
def _session_store_module(value, session, layer, site):
    return None


@register_fake("flashomni::session_reuse_module")
def _session_reuse_module(residual, gate, session, layer, site):
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


def _no_gradient(ctx, *grads):
    raise UnsupportedError(
        "flashomni's operations are for inference and have no gradient; "
        "use torch.no_grad(), or the model without flashomni for training"
    )


for _name in (
    "attention",
    "gemm_q",
    "gemm_o",
    "gemm_o_update",
    "session_attention",
    "session_project_out",
):
    register_autograd(f"flashomni::{_name}", _no_gradient)

# SPDX-License-Identifier: Apache-2.0
"""Sparse attention and symbol building as functions, on NumPy arrays and torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .symbols import Geometry, Symbols


def attention(
    q: Any,
    k: Any,
    v: Any,
    symbols: Symbols | None = None,
    *,
    scale: float | None = None,
    cached: Any = None,
) -> Any:
    """softmax(q k^T * scale) v, computing what `symbols` say.

    Args:
        q: [batch, tokens, heads, head_dim] (the layout of diffusers, not of torch's SDPA).
        k, v: [batch, kv tokens, heads, head_dim]. NumPy: computed in float32 on the CPU. torch: float32,
            bfloat16 or float16, all alike; on GPUs bfloat16 or float16 and a head_dim that the build
            supports (64, 96, 128). Any strides whose innermost is 1; others are copied.
        symbols: None computes everything. Zero sparsity gives the same bits as None.
        scale: default 1/sqrt(head_dim).
        cached: like q; rows with S_c = 0 are taken from it. Without it they are 0.

    Returns: like q, contiguous.

    Raises: ValueError for shapes and types that do not fit, NotImplementedError for what this device
        does not support, both naming what was seen and wanted. Never runs dense instead. For inference:
        its gradient is not defined.
    """
    factor = 0.0 if scale is None else float(scale)
    if isinstance(q, np.ndarray):
        core = None if symbols is None else symbols._core()
        return _core.attention(q, k, v, core, factor, cached)
    from .torch_ops import ops, symbol_arguments

    arguments = symbol_arguments(
        symbols, q.device, q.shape[0], q.shape[2], q.shape[1], k.shape[1]
    )
    every_row = symbols is None or symbols.every_row
    return ops.attention(q, k, v, *arguments, every_row, factor, cached)


def build_symbols(
    q: Any,
    k: Any,
    *,
    block: int | tuple[int, int] = 64,
    text: tuple[int, int] = (0, 0),
    cache: float = 0.0,
    skip: float = 0.0,
    rule: str = "drop_cdf",
    text_score: str = "mean_of_softmaxes",
    protect_text: bool = True,
    smooth_k: bool = False,
) -> Symbols:
    """Symbols from pooled queries and keys, as the strategy `flashomni` builds them at an Update.

    Args:
        q, k: torch tensors [batch, tokens, heads, head_dim], after norm and RoPE.
        text: the half-open range of text tokens; an empty one caches nothing.
        cache: share of the text-score distribution whose rows are cached; 0 = none.
        skip: the parameter of `rule`; for drop_cdf the share of a row's pooled attention that is skipped,
            0 = none; for keep_cdf_lt / keep_cdf_ge the share kept; for top_k the number of blocks kept.
        protect_text: always compute text rows and columns.
        smooth_k: subtract the mean key before pooling.

    Returns: Symbols on the device of q. Raises as `attention` does.
    """
    from .torch_ops import ops

    bq, bkv = (block, block) if isinstance(block, int) else block
    scores = ops.block_scores(ops.pool(q, bq, False), ops.pool(k, bkv, smooth_k), 0.0)
    # A threshold of 0 would still drop blocks whose weight underflows; a negative one drops nothing.
    parameter = -1.0 if rule == "drop_cdf" and skip <= 0 else float(skip)
    theta = float(cache) if cache > 0 and text[1] > text[0] else -1.0
    c, s = ops.select_symbols(
        scores,
        q.shape[1],
        k.shape[1],
        bq,
        bkv,
        text[0],
        text[1],
        theta,
        text_score,
        rule,
        parameter,
        protect_text,
    )
    geometry = Geometry(q.shape[0], q.shape[2], q.shape[1], k.shape[1], bq, bkv)
    return Symbols(geometry, c, s, every_row=theta < 0)

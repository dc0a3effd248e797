# SPDX-License-Identifier: Apache-2.0
"""GEMM-Q and GEMM-O on torch tensors: the projections around attention that follow the symbols."""

from __future__ import annotations

from typing import Any, Sequence

from .symbols import Symbols


class PackedWeight:
    """The engine's own copy of a Linear's weight, laid out for its kernels.

    weight [out, in] and bias [out] in float32, bfloat16 or float16; head_dim > 0 for a projection whose
    columns are heads (GEMM-Q). Later changes of the given tensors do not reach it. `close` frees it.
    """

    def __init__(self, weight: Any, bias: Any = None, *, head_dim: int = 0):
        from .torch_ops import ops

        self._ops = ops
        self.out_features, self.in_features = weight.shape
        self.head_dim = head_dim
        self.id: int = ops.pack_weight(weight, bias, head_dim)

    def close(self) -> None:
        """Frees the copy; operations that still name it raise RuntimeError."""
        if self.id:
            self._ops.free_weight(self.id)
        self.id = 0

    def __del__(self) -> None:
        if getattr(self, "id", 0):
            self.close()


def gemm_q(
    x: Any,
    weight: PackedWeight,
    symbols: Symbols | None = None,
    *,
    rms_weight: Any = None,
    rms_eps: float = 1e-6,
    rope: tuple[Any, Any] | None = None,
    tokens: int = 0,
    token_offset: int = 0,
) -> Any:
    """The query projection with RMSNorm per head and RoPE, for tiles (query block, head) with S_c = 1.

    Args:
        x: [batch, rows, in features]; float32 on the CPU, bfloat16 or float16 on GPUs.
        weight: packed with head_dim. rms_weight: [head_dim] or None.
        rope: (cos, sin) float32 [tokens, head_dim / 2] for adjacent pairs, or None.
        tokens: of the joint sequence (0: token_offset + rows); token_offset: of row 0 of x in it.

    Returns: [batch, tokens, heads, head_dim]; what is not computed is 0.
    """
    from .torch_ops import ops, symbol_arguments

    heads = weight.out_features // max(1, weight.head_dim)
    total = tokens or token_offset + x.shape[1]
    arguments = symbol_arguments(symbols, x.device, x.shape[0], heads, total, total)
    every_row = symbols is None or symbols.every_row
    cos, sin = rope or (None, None)
    return ops.gemm_q(
        x,
        weight.id,
        heads,
        weight.head_dim,
        rms_weight,
        rms_eps,
        cos,
        sin,
        *arguments,
        every_row,
        total,
        token_offset,
    )


def gemm_o(
    attn: Any,
    weight: PackedWeight,
    symbols: Symbols | None = None,
    *,
    planes: Any = None,
    coefficients: Sequence[float] = (),
    mlp: Any = None,
    rows: int = 0,
    token_offset: int = 0,
) -> Any:
    """The output projection: sums the heads that were computed and adds the cached ones as bias.

    Args:
        attn: [batch, tokens, heads, head_dim]; rows of tiles with S_c = 0 are not read.
        planes: [1..4, batch, tokens, width] from gemm_o_update; coefficients: one for each
            (x^m / m! for a forecast x steps ahead). Required with symbols.
        mlp: [batch, rows, features], more input columns after the heads (FLUX single blocks).

    Returns: [batch, rows, width].
    """
    from .torch_ops import ops, symbol_arguments

    b, n, h = attn.shape[:3]
    return ops.gemm_o(
        attn,
        weight.id,
        weight.out_features,
        mlp,
        planes,
        list(coefficients),
        *symbol_arguments(symbols, attn.device, b, h, n, n),
        rows,
        token_offset,
    )


def gemm_o_update(
    factors: Any, weight: PackedWeight, symbols: Symbols, *, mlp: Any = None
) -> tuple[Any, Any]:
    """The Update form: output and bias planes in one pass over the weight.

    factors: [1..4, batch, tokens, heads, head_dim], Taylor factors of the attention output, the fresh
    output first. Returns (output [batch, tokens, width], planes [P, batch, tokens, width], float32 on the CPU
    and of the type of `factors` on a GPU).
    """
    from .torch_ops import ops, symbol_arguments

    _, b, n, h = factors.shape[:4]
    return ops.gemm_o_update(
        factors,
        weight.id,
        weight.out_features,
        mlp,
        *symbol_arguments(symbols, factors.device, b, h, n, n),
    )

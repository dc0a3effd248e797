# SPDX-License-Identifier: Apache-2.0
"""What the processors and blocks of one model share, and the steps all of them take."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedError
from ..torch_ops import ops, torch

DEGRADED = 3  # LayerKind::kDegraded


class Context:
    """Plain attributes only: compiled graphs read them."""

    def __init__(self) -> None:
        self.session = 0  # number of the engine session
        self.gemm_q = False  # Q, K and V come from the engine's weights
        self.gemm_o = False  # so does the output projection
        self.degrade = False  # blocks may be left out
        self._rope: tuple[Any, Any, Any] | None = None

    def rope_halves(self, rotary: Any, before: int, after: int) -> tuple[Any, Any]:
        """cos and sin float32 [before + N + after, d/2] from diffusers' repeated tables [N, d]; tokens
        around them are not rotated. All layers of a step get one table."""
        compiling = torch.compiler.is_compiling()
        if not compiling and self._rope is not None and self._rope[0] is rotary[0]:
            return self._rope[1], self._rope[2]
        cos = torch.nn.functional.pad(rotary[0][:, 0::2].float(), (0, 0, before, after), value=1.0)
        sin = torch.nn.functional.pad(rotary[1][:, 0::2].float(), (0, 0, before, after))
        cos, sin = cos.contiguous(), sin.contiguous()
        if not compiling:
            self._rope = (rotary[0], cos, sin)
        return cos, sin

    def forget(self) -> None:
        self._rope = None


class Processor:
    """Base of the attention processors: the parts that do not depend on the model."""

    # diffusers sets these on processors (set_attention_backend, context parallelism).
    _attention_backend = None
    _parallel_config = None

    def __init__(self, context: Context, index: int, layer: Any):
        self.context = context
        self.layer = index
        self.width = layer.width
        self.heads = layer.heads
        self.head_dim = layer.head_dim

    def refuse_parallel(self) -> None:
        if self._parallel_config is not None:
            raise UnsupportedError(
                "context parallelism is not supported; supported: one device a model"
            )

    def attend(self, q, k, v, text: tuple[int, int], mask=None):
        """[B, N, H, d] -> [B, N, H, d]: dense, refreshing or sparse, as this step wants it."""
        return ops.session_attention(
            q, k, v, self.context.session, self.layer, text[0], text[1], mask
        )

    def project(self, xs, offsets, rope, tokens: int, text: tuple[int, int], mask=None):
        """Q, K, V [B, N, H, d] of the joint sequence, normalised and rotated, by the engine."""
        cos, sin = rope
        return ops.session_project_qkv(
            xs, offsets, cos, sin, self.context.session, self.layer, tokens, self.heads,
            self.head_dim, text[0], text[1], mask,
        )  # fmt: skip

    def output(self, attended, module, part: int, offset: int, rows: int, dtype):
        """The output projection of one part of the sequence, [B, rows, width]."""
        if self.context.gemm_o:
            y = ops.session_project_out(
                attended, None, self.context.session, self.layer, part, offset, rows, self.width
            )
            return y.to(dtype)
        return module(attended[:, offset : offset + rows].flatten(2).to(dtype))

    def store(self, value, site: int):
        """Keeps a module output for degraded layers, where the engine wants it in this step."""
        if self.context.degrade and not torch.compiler.is_compiling():
            ops.session_store_module(value, self.context.session, self.layer, site)
        return value


def heads_of(attn: Any, x, projection: Any, fused: Any):
    """Q, K, V [B, M, H, d] of one part by the model's own modules (LoRA, quantised, ... included)."""
    if getattr(attn, "fused_projections", False) and fused is not None:
        q, k, v = fused(x).chunk(3, dim=-1)
    else:
        q, k, v = projection.q(x), projection.k(x), projection.v(x)
    q, k, v = (t.unflatten(-1, (attn.heads, -1)) for t in (q, k, v))
    if projection.norm_q is not None:
        q = projection.norm_q(q)
    if projection.norm_k is not None:
        k = projection.norm_k(k)
    return q, k, v


def reuse(context: Context, layer: int, site: int, residual, gate):
    """residual + gate * forecast of a stored module output."""
    return ops.session_reuse_module(residual, gate, context.session, layer, site)


def begin_layer(context: Context, layer: int, info: Any, like, tokens: int, text, mask=None) -> int:
    """The kind of a layer in this step; asked before its block runs."""
    return ops.session_begin_layer(
        like, context.session, layer, tokens, info.heads, info.head_dim, text[0], text[1], mask
    )

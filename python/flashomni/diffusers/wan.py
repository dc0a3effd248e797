# SPDX-License-Identifier: Apache-2.0
"""Wan 2.1 and 2.2: self-attention of video tokens (attn1). Cross-attention to the text stays torch's."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedError
from ..torch_ops import torch
from .context import Processor
from .families import Family, Layer, Projection


def _rotated(x, cos, sin):
    """diffusers' rotation of adjacent pairs, in its own types."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([even * c - odd * s, even * s + odd * c], dim=-1).flatten(-2).type_as(x)


class WanProcessor(Processor):
    """Replaces WanAttnProcessor on self-attention; the same call contract."""

    def __call__(
        self,
        attn: Any,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        rotary_emb=None,
    ):
        self.refuse_parallel()
        if encoder_hidden_states is not None or attention_mask is not None:
            raise UnsupportedError(
                "Wan self-attention got text or a mask; supported: its own blocks"
            )
        dtype = hidden_states.dtype
        if getattr(attn, "fused_projections", False):
            q, k, v = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        else:
            q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        # The norm spans all heads, so it needs every query: GEMM-Q cannot follow the symbols here.
        q, k = attn.norm_q(q), attn.norm_k(k)
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, v))
        if rotary_emb is not None:
            q, k = _rotated(q, *rotary_emb), _rotated(k, *rotary_emb)
        attended = self.attend(q, k, v, (0, 0))
        y = self.output(attended, attn.to_out[0], 0, 0, hidden_states.shape[1], dtype)
        return attn.to_out[1](y)


def _layers(transformer: Any) -> list[Layer]:
    layers = []
    for i, block in enumerate(transformer.blocks):
        attn = block.attn1
        width = attn.inner_dim
        part = Projection(attn.to_q, attn.to_k, attn.to_v, out=attn.to_out[0])
        ffn = block.ffn.net[2].in_features
        layers.append(
            Layer(
                f"blocks.{i}", block, attn, width, attn.heads, width // attn.heads, [part],
                4.0 * width * (width + ffn) + 4.0 * width * width,
            )
        )  # fmt: skip
    return layers


FAMILY = Family(
    name="wan",
    layers=_layers,
    processor=WanProcessor,
    block_forward=lambda *_: None,
    check=lambda _: None,
    dense_gemm_q="Wan normalises queries over all heads, so that no tile can be projected alone",
)

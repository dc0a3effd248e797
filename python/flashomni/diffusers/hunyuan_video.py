# SPDX-License-Identifier: Apache-2.0
"""HunyuanVideo (text to video): latents first; text is padded at the end and masked.

The engine computes the valid tokens of each sample only, which is exact: nothing valid ever reads a
padding token. Padding rows come out as 0.
"""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedError
from ..torch_ops import torch
from .context import DEGRADED, Context, Processor, begin_layer, heads_of
from .families import Family, Layer
from .joint_blocks import (
    IMAGE_ATTN,
    TEXT_ATTN,
    degraded_double,
    degraded_single,
    image_projection,
    joint_layers,
    may_degrade,
    text_projection,
)


class HunyuanVideoProcessor(Processor):
    """Replaces HunyuanVideoAttnProcessor2_0; the same call contract."""

    def __call__(
        self,
        attn: Any,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        self.refuse_parallel()
        if encoder_hidden_states is None:
            raise UnsupportedError("HunyuanVideo attention got no text; supported: its own blocks")
        double = attn.add_q_proj is not None
        rows, text_rows = hidden_states.shape[1], encoder_hidden_states.shape[1]
        tokens, text = rows + text_rows, (rows, rows + text_rows)
        dtype = hidden_states.dtype
        if double:
            xs, offsets = [hidden_states, encoder_hidden_states], [0, rows]
        else:
            xs, offsets = [torch.cat([hidden_states, encoder_hidden_states], dim=1)], [0]
        if self.context.gemm_q:
            rope = (None, None)
            if image_rotary_emb is not None:
                rope = self.context.rope_halves(image_rotary_emb, 0, text_rows)
            q, k, v = self.project(xs, offsets, rope, tokens, text, attention_mask)
        else:
            q, k, v = heads_of(attn, xs[0], image_projection(attn), None)
            if double:
                t = heads_of(attn, encoder_hidden_states, text_projection(attn), None)
                q, k, v = (torch.cat(pair, dim=1) for pair in zip((q, k, v), t, strict=True))
            if image_rotary_emb is not None:
                from diffusers.models.embeddings import apply_rotary_emb

                q, k = (
                    torch.cat(
                        [
                            apply_rotary_emb(x[:, :rows], image_rotary_emb, sequence_dim=1),
                            x[:, rows:],
                        ],
                        dim=1,
                    )
                    for x in (q, k)
                )
        attended = self.attend(q, k, v, text, attention_mask)
        if not double:
            joint = attended.flatten(2).to(dtype)
            return joint[:, :rows], joint[:, rows:]
        image = self.output(attended, attn.to_out[0], 0, 0, rows, dtype)
        text_out = self.output(attended, attn.to_add_out, 1, rows, text_rows, dtype)
        return attn.to_out[1](self.store(image, IMAGE_ATTN)), self.store(text_out, TEXT_ATTN)


def _block_forward(context: Context, index: int, layer: Layer, original: Any):
    double = layer.name.startswith("transformer_blocks")

    def forward(hidden_states, encoder_hidden_states, temb, attention_mask=None, *args, **kwargs):
        call = (hidden_states, encoder_hidden_states, temb, attention_mask, *args)
        if not may_degrade(context):
            return original(*call, **kwargs)
        rows = hidden_states.shape[1]
        tokens = rows + encoder_hidden_states.shape[1]
        kind = begin_layer(
            context, index, layer, hidden_states, tokens, (rows, tokens), attention_mask
        )
        if kind != DEGRADED:
            return original(*call, **kwargs)
        if double:
            return degraded_double(
                context, index, layer.block, hidden_states, encoder_hidden_states, temb
            )
        joint = torch.cat([hidden_states, encoder_hidden_states], dim=1)
        joint = degraded_single(context, index, layer.block, joint, temb)
        return joint[:, :rows], joint[:, rows:]

    return forward


def _check(transformer: Any) -> None:
    kind = transformer.config.image_condition_type
    if kind is not None:
        raise UnsupportedError(
            f"HunyuanVideo with image_condition_type {kind!r}; supported: text to video (None)"
        )


FAMILY = Family(
    name="hunyuan_video",
    layers=lambda t: joint_layers(t, t.config.attention_head_dim, text_first=False),
    processor=HunyuanVideoProcessor,
    block_forward=_block_forward,
    check=_check,
)

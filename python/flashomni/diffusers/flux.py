# SPDX-License-Identifier: Apache-2.0
"""FLUX.1 (dev, schnell, Kontext): text first, one token sequence for both streams."""

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


class FluxProcessor(Processor):
    """Replaces FluxAttnProcessor; the same call contract."""

    def __call__(
        self,
        attn: Any,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        self.refuse_parallel()
        if attention_mask is not None:
            raise UnsupportedError(
                "FLUX attention got a mask; supported: none, as its pipelines call it"
            )
        double = encoder_hidden_states is not None
        text_rows = encoder_hidden_states.shape[1] if double else 0
        rows = hidden_states.shape[1]
        # A single block does not say where its text ends; the double blocks before it did.
        text = (0, text_rows)
        dtype = hidden_states.dtype
        xs = [encoder_hidden_states, hidden_states] if double else [hidden_states]
        if self.context.gemm_q:
            rope = (None, None)
            if image_rotary_emb is not None:
                rope = self.context.rope_halves(image_rotary_emb, 0, 0)
            q, k, v = self.project(
                xs, [0, text_rows] if double else [0], rope, text_rows + rows, text
            )
        else:
            q, k, v = heads_of(
                attn, hidden_states, image_projection(attn), getattr(attn, "to_qkv", None)
            )
            if double:
                t = heads_of(
                    attn,
                    encoder_hidden_states,
                    text_projection(attn),
                    getattr(attn, "to_added_qkv", None),
                )
                q, k, v = (torch.cat(pair, dim=1) for pair in zip(t, (q, k, v), strict=True))
            if image_rotary_emb is not None:
                from diffusers.models.embeddings import apply_rotary_emb

                q = apply_rotary_emb(q, image_rotary_emb, sequence_dim=1)
                k = apply_rotary_emb(k, image_rotary_emb, sequence_dim=1)
        attended = self.attend(q, k, v, text)
        if not double:
            return attended.flatten(2).to(dtype)
        image = self.output(attended, attn.to_out[0], 1, text_rows, rows, dtype)
        text_out = self.output(attended, attn.to_add_out, 0, 0, text_rows, dtype)
        return attn.to_out[1](self.store(image, IMAGE_ATTN)), self.store(text_out, TEXT_ATTN)


def _block_forward(context: Context, index: int, layer: Layer, original: Any):
    double = layer.name.startswith("transformer_blocks")

    def forward(hidden_states, encoder_hidden_states, temb, *args, **kwargs):
        if not may_degrade(context):
            return original(hidden_states, encoder_hidden_states, temb, *args, **kwargs)
        rows = encoder_hidden_states.shape[1]
        tokens = rows + hidden_states.shape[1]
        kind = begin_layer(context, index, layer, hidden_states, tokens, (0, rows))
        if kind != DEGRADED:
            return original(hidden_states, encoder_hidden_states, temb, *args, **kwargs)
        if double:
            image, text = degraded_double(
                context, index, layer.block, hidden_states, encoder_hidden_states, temb
            )
        else:
            joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)
            joint = degraded_single(context, index, layer.block, joint, temb)
            text, image = joint[:, :rows], joint[:, rows:]
        if image.dtype == torch.float16:  # as the block itself does
            text = text.clip(-65504, 65504)
            image = image if double else image.clip(-65504, 65504)
        return text, image

    return forward


def _check(transformer: Any) -> None:
    for name, processor in transformer.attn_processors.items():
        if "IPAdapter" in type(processor).__name__:
            raise UnsupportedError(
                f"{name} is an IP-Adapter processor; unload the IP-Adapter before apply"
            )


FAMILY = Family(
    name="flux",
    layers=lambda t: joint_layers(t, t.config.attention_head_dim, text_first=True),
    processor=FluxProcessor,
    block_forward=_block_forward,
    check=_check,
)

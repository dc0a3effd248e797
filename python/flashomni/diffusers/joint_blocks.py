# SPDX-License-Identifier: Apache-2.0
"""What FLUX and HunyuanVideo share: double and single blocks with joint attention."""

from __future__ import annotations

from typing import Any

from ..torch_ops import torch
from .context import Context, reuse
from .families import Layer, Projection

# Order of the module sites of a double block; a single block has the one site 0.
IMAGE_ATTN, IMAGE_MLP, TEXT_ATTN, TEXT_MLP = range(4)


def _norm(module: Any) -> Any:
    return module if module is not None and getattr(module, "weight", None) is not None else None


def image_projection(attn: Any) -> Projection:
    to_out = getattr(attn, "to_out", None)
    return Projection(
        attn.to_q, attn.to_k, attn.to_v, _norm(attn.norm_q), _norm(attn.norm_k),
        to_out[0] if to_out is not None else None,
    )  # fmt: skip


def text_projection(attn: Any) -> Projection:
    return Projection(
        attn.add_q_proj, attn.add_k_proj, attn.add_v_proj, _norm(attn.norm_added_q),
        _norm(attn.norm_added_k), attn.to_add_out,
    )  # fmt: skip


def joint_layers(transformer: Any, head_dim: int, text_first: bool) -> list[Layer]:
    """Double blocks, then single blocks; parts in the order of the sequence."""
    layers = []
    for i, block in enumerate(transformer.transformer_blocks):
        heads, width = block.attn.heads, block.attn.heads * head_dim
        mlp = block.ff.net[2].in_features
        parts = [image_projection(block.attn), text_projection(block.attn)]
        layers.append(
            Layer(
                f"transformer_blocks.{i}", block, block.attn, width, heads, head_dim,
                parts[::-1] if text_first else parts, 4.0 * width * (width + mlp),
                [("img_attn", "vision"), ("img_mlp", "vision"), ("txt_attn", "text"), ("txt_mlp", "text")],
                [(block.ff, IMAGE_MLP), (block.ff_context, TEXT_MLP)],
            )
        )  # fmt: skip
    for i, block in enumerate(transformer.single_transformer_blocks):
        heads, width = block.attn.heads, block.attn.heads * head_dim
        mlp = block.proj_mlp.out_features
        part = image_projection(block.attn)
        part.out = block.proj_out
        layers.append(
            Layer(
                f"single_transformer_blocks.{i}", block, block.attn, width, heads, head_dim, [part],
                4.0 * width * (width + mlp), [("total", "all")], mlp_width=mlp,
            )
        )  # fmt: skip
    return layers


def degraded_double(context: Context, layer: int, block: Any, image, text, temb):
    """A double block without its attention and MLPs: gates on reused module outputs."""
    gates = block.norm1.linear(block.norm1.silu(temb)).chunk(6, dim=1)
    text_gates = block.norm1_context.linear(block.norm1_context.silu(temb)).chunk(6, dim=1)
    image = reuse(context, layer, IMAGE_ATTN, image, gates[2])
    image = reuse(context, layer, IMAGE_MLP, image, gates[5])
    text = reuse(context, layer, TEXT_ATTN, text, text_gates[2])
    text = reuse(context, layer, TEXT_MLP, text, text_gates[5])
    return image, text


def degraded_single(context: Context, layer: int, block: Any, joint, temb):
    """The same for a single block, on the joint sequence."""
    gate = block.norm.linear(block.norm.silu(temb)).chunk(3, dim=1)[2]
    return reuse(context, layer, 0, joint, gate)


def may_degrade(context: Context) -> bool:
    # A compiled graph is the same in all steps; its model does not degrade (model.py).
    return context.degrade and not torch.compiler.is_compiling()

# SPDX-License-Identifier: Apache-2.0
"""The model families that `apply` knows, and what each must tell about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from ..errors import UnsupportedError


@dataclass
class Projection:
    """Modules of one part of a layer's sequence (its text or its image), None where it has none."""

    q: Any = None
    k: Any = None
    v: Any = None
    norm_q: Any = None
    norm_k: Any = None
    out: Any = None


@dataclass
class Layer:
    """One attention layer: where it is in the model and what the engine must know of it."""

    name: str
    block: Any
    attn: Any
    width: int
    heads: int
    head_dim: int
    parts: list[Projection]
    other_flops_per_token: float
    sites: list[tuple[str, str]] = field(default_factory=list)  # (name, "all" | "text" | "vision")
    modules: list[tuple[Any, int]] = field(default_factory=list)  # MLPs whose outputs are sites
    mlp_width: int = 0  # of the columns that share the output projection with attention


@dataclass(frozen=True)
class Family:
    """How one transformer class of diffusers is driven."""

    name: str  # of the presets
    layers: Callable[[Any], list[Layer]]
    processor: Callable[..., Any]  # (context, index, layer) -> attention processor
    block_forward: Callable[..., Any]  # (context, index, layer, original) -> forward, or None
    check: Callable[[Any], None]  # raises UnsupportedError
    dense_gemm_q: str = ""  # why queries cannot follow the symbols


def _families() -> dict[str, Family]:
    from . import flux, hunyuan_video, wan

    return {
        "FluxTransformer2DModel": flux.FAMILY,
        "HunyuanVideoTransformer3DModel": hunyuan_video.FAMILY,
        "WanTransformer3DModel": wan.FAMILY,
    }


FAMILIES = (
    "FluxTransformer2DModel",
    "HunyuanVideoTransformer3DModel",
    "WanTransformer3DModel",
)


def family_of(transformer: Any) -> Family:
    """The family of a transformer, by the names of its class and its bases.

    Raises UnsupportedError for every other model, listing the supported ones.
    """
    families = _families()
    for base in type(transformer).__mro__:
        if base.__name__ in families:
            family = families[base.__name__]
            family.check(transformer)
            return family
    raise UnsupportedError(
        f"no support for {type(transformer).__name__}; supported: {', '.join(FAMILIES)}"
    )

# SPDX-License-Identifier: Apache-2.0
"""FlashOmni: a sparse attention engine for Diffusion Transformers.

NumPy arrays and CPU need nothing else; torch tensors need the torch operations (built when torch is
there at `pip install .`); `apply` needs diffusers. docs/python.md is the tour.
"""

from __future__ import annotations

from typing import Any

from . import _core
from .errors import MissingTorchError, UnsupportedError
from .functional import attention, build_symbols
from .linear import PackedWeight, gemm_o, gemm_o_update, gemm_q
from .strategies import Strategy, list_strategies
from .symbols import Symbols

__version__: str = _core.version

__all__ = [
    "MissingTorchError",
    "PackedWeight",
    "Strategy",
    "Symbols",
    "UnsupportedError",
    "apply",
    "attention",
    "backends",
    "build_symbols",
    "gemm_o",
    "gemm_o_update",
    "gemm_q",
    "list_strategies",
]


def backends() -> list[str]:
    """Names of the backends in this build: "cpu", and "cuda" where it was built with nvcc."""
    return _core.backends()


def apply(pipe: Any, strategy: Any = "flashomni", **options: Any):
    """Puts the engine underneath a diffusers pipeline; see flashomni.diffusers.apply."""
    from .diffusers import apply as apply_to_pipeline

    return apply_to_pipeline(pipe, strategy, **options)

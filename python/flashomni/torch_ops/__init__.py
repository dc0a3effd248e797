# SPDX-License-Identifier: Apache-2.0
"""The seam to torch: loads the operations, describes their outputs to the compiler (fakes.py).

The only folder, with python/csrc/torch, that knows torch; import it through the functions above it.
"""

from __future__ import annotations

import pathlib
from typing import Any

from .._build_info import TORCH_VERSION
from ..errors import MissingTorchError

_REBUILD = "run `pip install --force-reinstall --no-deps .` in FlashOmni's folder with this torch installed"

try:
    import torch
except ImportError as error:
    raise MissingTorchError(
        "torch is not installed; flashomni works on NumPy arrays without it"
    ) from error

if not TORCH_VERSION:
    raise MissingTorchError(f"this flashomni was built without torch operations; {_REBUILD}")
if torch.__version__ != TORCH_VERSION:
    raise MissingTorchError(
        f"torch is {torch.__version__}, this flashomni was built for {TORCH_VERSION}; {_REBUILD}"
    )


def _library() -> pathlib.Path:
    from .. import _core

    # Beside the other module, wherever an editable or a plain install put it.
    return pathlib.Path(_core.__file__).with_name("_torch_ops.so")


torch.ops.load_library(str(_library()))
ops = torch.ops.flashomni

from . import fakes  # noqa: E402,F401  (registers on import)


def symbol_arguments(
    symbols: Any, device: Any, batch: int, heads: int, q_tokens: int, kv_tokens: int
):
    """(c, s, plan, block_q, block_kv) of symbols that fit, moved to `device` if they are NumPy arrays.

    Raises ValueError where they are of another shape or on another device.
    """
    if symbols is None:
        return None, None, None, 64, 64
    if not symbols.is_torch:
        symbols = symbols.to(device)
    g = symbols.geometry
    seen, wanted = (g.batch, g.heads, g.q_tokens, g.kv_tokens), (batch, heads, q_tokens, kv_tokens)
    if seen != wanted:
        raise ValueError(
            f"symbols are for (batch, heads, q tokens, kv tokens) {seen}, the tensors have {wanted}"
        )
    if symbols.c.device != device:
        raise ValueError(
            f"symbols are on {symbols.c.device}, the tensors on {device}; use symbols.to(...)"
        )
    # A compiled graph plans inside the operation: the plan's size is not known when it is traced.
    plan = None if torch.compiler.is_compiling() else symbols.plan
    return symbols.c, symbols.s, plan, g.block_q, g.block_kv

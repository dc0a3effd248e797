# SPDX-License-Identifier: Apache-2.0
"""Which projections the engine may run from its own copies, and whether those are still true."""

from __future__ import annotations

from typing import Any

from ..torch_ops import torch

ROLES = {"q": 0, "k": 1, "v": 2, "out": 3}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unpackable(module: Any, device: torch.device) -> str:
    """Why the engine cannot take a copy of this Linear; empty if it can."""
    kind = type(module)
    if kind is not torch.nn.Linear:
        return f"is a {kind.__module__.split('.')[0]} {kind.__name__}, not a plain Linear (fuse LoRA weights first)"
    if hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook"):
        return "has an offloading or casting hook"
    if module._forward_pre_hooks or module._forward_hooks:
        return "has forward hooks"
    if module.weight.dtype not in _DTYPES:
        return f"holds {module.weight.dtype}, supported: float32, bfloat16, float16"
    if module.weight.device != device:
        return f"is on {module.weight.device} while the model runs on {device} (offloaded)"
    return ""


def fingerprint(tensors: list[Any]) -> list[int]:
    """A number for the bits of each tensor. In-place edits through .data, as LoRA fusing does, leave no
    trace in torch's version counters, so that the contents must be read; once a run."""
    sums = []
    for t in tensors:
        bits = t.detach().contiguous().view(torch.int16 if t.element_size() == 2 else torch.int32)
        # Neighbours that trade places must show, hence the second, weighted sum.
        weights = torch.arange(1, bits.shape[-1] + 1, device=bits.device, dtype=torch.int32)
        sums.append(
            bits.sum(dtype=torch.int64) * 1_000_003 + (bits * weights).sum(dtype=torch.int64)
        )
    return torch.stack(sums).tolist() if sums else []


def norm_arguments(norm: Any) -> tuple[Any, float]:
    """(weight, eps) of an RMSNorm, or (None, 0)."""
    if norm is None:
        return None, 0.0
    eps = getattr(norm, "eps", None)
    return norm.weight, torch.finfo(norm.weight.dtype).eps if eps is None else float(eps)

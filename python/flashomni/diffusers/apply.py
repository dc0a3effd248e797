# SPDX-License-Identifier: Apache-2.0
"""flashomni.apply: finds the transformers of a pipeline and puts the engine underneath them."""

from __future__ import annotations

import os
from typing import Any

from ..errors import UnsupportedError
from ..strategies import Strategy
from .families import FAMILIES, family_of
from .handle import Handle
from .model import Model
from .scheduler import SchedulerFollower

_PARTS = ("auto", True, False)


def apply(
    pipe: Any,
    strategy: str | os.PathLike[str] | dict[str, Any] | Strategy = "flashomni",
    *,
    preset: str = "",
    gemm_q: bool | str = "auto",
    gemm_o: bool | str = "auto",
    keep_symbols: bool = False,
    **options: Any,
) -> Handle:
    """Makes a diffusers pipeline run on FlashOmni until `handle.remove()`.

    Args:
        pipe: a FLUX.1 (dev, schnell, Kontext), HunyuanVideo or Wan pipeline, or one of their
            transformers (then `with handle.run(steps)` and `handle.end_step()` tell the steps).
        strategy: a name (`flashomni.list_strategies()`), a JSON config file of the command line or
            its contents, or a Strategy.
        preset: a named option set below `options`, such as "quality" or "balanced".
        gemm_q, gemm_o: let the query and the output projections follow the symbols too. They need
            the engine's own copy of those weights, so "auto" uses them where the weights lie plain on
            the device and says in the report where not; True raises instead; False never does.
        keep_symbols: keep the symbols of every Update for `handle.symbols()`.
        **options: single options of the strategy on top, such as tau_q=0.5.

    Raises:
        UnsupportedError: a model or processor that is not supported; the message lists what is.
        ValueError: unknown strategies, presets and options, or values out of range.
    """
    for name, value in (("gemm_q", gemm_q), ("gemm_o", gemm_o)):
        if value not in _PARTS:
            raise ValueError(f"{name} is {value!r}, wanted 'auto', True or False")
    chosen = Strategy.of(strategy)
    chosen = Strategy(chosen.name, preset or chosen.preset, {**chosen.options, **options})
    transformers = _transformers(pipe)
    models = []
    try:
        for name, transformer in transformers:
            family = family_of(transformer)
            models.append(
                Model(
                    name,
                    transformer,
                    family,
                    chosen.resolve(family.name),
                    gemm_q,
                    gemm_o,
                    keep_symbols,
                    pipe,
                )
            )
        for model in models:
            model.install()
    except BaseException:
        for model in models:
            model.remove()
        raise
    scheduler = getattr(pipe, "scheduler", None)
    return Handle(pipe, models, SchedulerFollower(scheduler) if scheduler is not None else None)


def _transformers(pipe: Any) -> list[tuple[str, Any]]:
    """(name, module) of every transformer of a pipeline; compiled ones are unwrapped."""
    found = [
        (name, getattr(pipe, name))
        for name in ("transformer", "transformer_2")
        if getattr(pipe, name, None) is not None
    ]
    if not found and hasattr(pipe, "forward"):
        found = [("transformer", pipe)]
    if not found:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedError(
            f"{type(pipe).__name__} has no transformer; supported: pipelines with {known}"
        )
    return [(name, getattr(module, "_orig_mod", module)) for name, module in found]

# SPDX-License-Identifier: Apache-2.0
"""What `apply` returns: the report of what ran, and the way back."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from ..symbols import Geometry, Symbols
from ..torch_ops import torch
from .model import Model
from .report import Report
from .scheduler import SchedulerFollower, timesteps_of


class Handle:
    """FlashOmni underneath one pipeline, from `apply` until `remove`."""

    def __init__(self, pipe: Any, models: list[Model], follower: SchedulerFollower | None):
        self._pipe = pipe
        self._models = models
        self._follower = follower
        self._steps: list[int] = []  # which model runs in each step
        self._step = 0
        if follower is not None:
            follower.follow(self._scheduler_run, self.end_step)

    # ---- what ran

    def report(self) -> Report:
        """What really ran in the last run (or the one under way): text, dict and HTML."""
        self._live()
        ran = [(record, model) for model in self._models if (record := model.report())]
        return Report([record for record, _ in ran], [model.report_html() for _, model in ran])

    def symbols(self) -> list[dict[str, Any]]:
        """With keep_symbols=True, the symbols of every Update of the last run:
        {"model", "step", "layer", "symbols"}, in the order in which they were built."""
        self._live()
        out = []
        for model in self._models:
            for snapshot in model.session.snapshots() if model.session else []:
                core = snapshot["symbols"]
                symbols = Symbols(Geometry(*core.geometry), *core.words())
                name = model.layers[snapshot["layer"]].name
                out.append(
                    {
                        "model": model.name,
                        "step": snapshot["step"],
                        "layer": name,
                        "symbols": symbols,
                    }
                )
        return out

    # ---- runs; pipelines start and step them through their scheduler

    @contextlib.contextmanager
    def run(self, steps: int) -> Iterator[Handle]:
        """A run of `steps` steps by a loop of your own: call `end_step()` after each."""
        self._live()
        self._begin([0] * steps)
        try:
            yield self
        finally:
            for model in self._models:
                model.end_run()

    def end_step(self) -> None:
        """Ends a step of the run under way. The pipeline's scheduler calls it."""
        if self._step < len(self._steps):
            self._models[self._steps[self._step]].end_step()
            self._step += 1

    def _scheduler_run(self, scheduler: Any) -> None:
        if scheduler.timesteps is None:
            return
        times = timesteps_of(scheduler)
        ratio = getattr(getattr(self._pipe, "config", None), "boundary_ratio", None)
        if len(self._models) == 1 or ratio is None:
            self._begin([0] * len(times))
        else:  # Wan 2.2: the second transformer takes over below a timestep
            boundary = ratio * scheduler.config.num_train_timesteps
            self._begin([0 if t >= boundary else 1 for t in times])

    def _begin(self, steps: list[int]) -> None:
        self._steps, self._step = steps, 0
        device = self._device()
        for index, model in enumerate(self._models):
            count = steps.count(index)
            if count:
                model.begin_run(count, device)

    def _device(self) -> torch.device:
        device = getattr(self._pipe, "_execution_device", None)
        if device is None:
            device = next(self._models[0].transformer.parameters()).device
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        return device

    # ---- the way back

    def remove(self) -> None:
        """Gives the pipeline back as it was before `apply`: processors, blocks, scheduler. A second call
        does nothing."""
        if self._follower is not None:
            self._follower.remove()
        for model in self._models:
            model.remove()
        self._models = []

    def _live(self) -> None:
        if not self._models:
            raise RuntimeError("this handle was removed")

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

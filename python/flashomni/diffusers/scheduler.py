# SPDX-License-Identifier: Apache-2.0
"""Follows a diffusers scheduler: where a run starts, and where each of its steps ends.

A scheduler is called by the pipeline itself, outside of any compiled graph, and once a step however
many guidance passes the step has. Its two methods are wrapped on the one object.
"""

from __future__ import annotations

import functools
from typing import Any, Callable


class SchedulerFollower:
    """`on_run(scheduler)` after set_timesteps or set_begin_index, `on_step()` after step."""

    def __init__(self, scheduler: Any):
        self.scheduler = scheduler
        self._names: list[str] = []

    def follow(self, on_run: Callable[[Any], None], on_step: Callable[[], None]) -> None:
        self._wrap("set_timesteps", lambda: on_run(self.scheduler))
        if hasattr(self.scheduler, "set_begin_index"):
            self._wrap("set_begin_index", lambda: on_run(self.scheduler))
        self._wrap("step", on_step)

    def _wrap(self, name: str, after: Callable[[], None]) -> None:
        original = getattr(self.scheduler, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            after()
            return result

        setattr(self.scheduler, name, wrapper)
        self._names.append(name)

    def remove(self) -> None:
        for name in self._names:
            vars(self.scheduler).pop(name, None)
        self._names.clear()


def timesteps_of(scheduler: Any) -> list[float]:
    """The timesteps that the coming run will take."""
    begin = getattr(scheduler, "begin_index", None) or 0
    return [float(t) for t in scheduler.timesteps[begin:]]

# SPDX-License-Identifier: Apache-2.0
"""Which strategy a run uses and with which options; the JSON of the command line's config files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from . import _core


def list_strategies() -> list[dict[str, Any]]:
    """All strategies: {"name", "summary", "options": [{"name", "help", "default"}], "presets"}."""
    return _core.strategies()


@dataclass(frozen=True)
class Strategy:
    """A strategy by name, a preset below and single options on top, as on the command line.

    `Strategy.from_json` reads the config files of the command (`flashomni ... --config FILE`).
    """

    name: str = "flashomni"
    preset: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str] | dict[str, Any]) -> Strategy:
        """From a config file or its contents. Raises ValueError for anything unknown, LookupError for
        a file that is not there."""
        if isinstance(source, dict):
            record = source
        else:
            record = json.loads(_core.read_strategy(os.fspath(source)))
        unknown = sorted(set(record) - {"strategy", "preset", "options"})
        if unknown:
            raise ValueError(
                f"strategy config: no field {unknown[0]!r}, wanted strategy, preset or options"
            )
        return cls(
            record.get("strategy", "flashomni"),
            record.get("preset", ""),
            dict(record.get("options", {})),
        )

    @classmethod
    def of(cls, value: str | os.PathLike[str] | dict[str, Any] | Strategy) -> Strategy:
        """A Strategy, a name, a config file (anything that ends in .json) or its contents."""
        if isinstance(value, Strategy):
            return value
        if isinstance(value, dict):
            return cls.from_json(value)
        text = os.fspath(value)
        return cls.from_json(text) if text.endswith(".json") else cls(text)

    def with_options(self, **options: Any) -> Strategy:
        """A copy with some options replaced."""
        return Strategy(self.name, self.preset, {**self.options, **options})

    def to_dict(self) -> dict[str, Any]:
        """What a config file holds."""
        record: dict[str, Any] = {"strategy": self.name, "options": self.options}
        if self.preset:
            record["preset"] = self.preset
        return record

    def resolve(self, model_family: str = "flux") -> Strategy:
        """The same with every option spelled out: defaults, then the preset of this model family, then
        the given ones. Raises ValueError for unknown names (listing the known) and values out of range."""
        text = json.dumps(self.to_dict())
        return Strategy.from_json(json.loads(_core.resolve_strategy(text, model_family)))

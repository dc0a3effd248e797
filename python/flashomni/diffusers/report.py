# SPDX-License-Identifier: Apache-2.0
"""The report of a run, in the words and numbers of the command line's."""

from __future__ import annotations

import html
from typing import Any

from .. import _core


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


class Report:
    """What each transformer of a pipeline did in a run. `str()` is for people, `to_dict()` for programs
    (the fields of `flashomni ... --json`), `to_html()` for browsers; notebooks show the last."""

    def __init__(self, models: list[dict[str, Any]], sections: list[str]):
        self._models = models
        self._sections = sections  # HTML of each

    def to_dict(self) -> dict[str, Any]:
        """{"models": [...]}: shares 0 to 1, times in seconds, sizes in bytes. Empty before any run."""
        return {"models": self._models}

    def _lines(self, m: dict[str, Any]) -> list[str]:
        strategy = m["strategy"]
        preset = f" ({strategy['preset']})" if strategy.get("preset") else ""
        flops = m["flops_skipped"] / m["flops_dense"] if m["flops_dense"] else 0.0
        kinds: dict[str, int] = {}
        for step in m["steps"]:
            kinds[step["kind"]] = kinds.get(step["kind"], 0) + 1
        lines = [
            f"{m['model']}: {strategy['strategy']}{preset} on {m['machine']['device']} ({m['machine']['isa']})",
            f"  {len(m['steps'])} steps: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()),
            f"  {_percent(m['attention_sparsity'])} of attention skipped "
            f"({_percent(m['dispatch_sparsity'])} in Dispatch steps), GEMM-Q {_percent(m['gemm_q_sparsity'])}, "
            f"GEMM-O {_percent(m['gemm_o_sparsity'])}, layers degraded {_percent(m['degraded_share'])}, "
            f"FLOPs {_percent(flops)}, cache {m['peak_cache_bytes'] / 2**20:.1f} MiB",
        ]
        for f in m["fallbacks"]:
            times = f" ({f['count']} times)" if f["count"] > 1 else ""
            lines.append(f"  ran dense: {f['where']}: {f['reason']}{times}")
        return lines

    def __str__(self) -> str:
        if not self._models:
            return "no run yet"
        return "\n".join(line for m in self._models for line in self._lines(m))

    __repr__ = __str__

    def _facts(self, m: dict[str, Any]) -> list[tuple[str, str]]:
        flops = m["flops_skipped"] / m["flops_dense"] if m["flops_dense"] else 0.0
        return [
            ("strategy", m["strategy"]["strategy"]),
            ("seconds in steps", f"{sum(step['seconds'] for step in m['steps']):.3f}"),
            ("attention left out", _percent(m["attention_sparsity"])),
            ("in Dispatch steps", _percent(m["dispatch_sparsity"])),
            ("GEMM-Q", _percent(m["gemm_q_sparsity"])),
            ("GEMM-O", _percent(m["gemm_o_sparsity"])),
            ("layers reused whole", _percent(m["degraded_share"])),
            ("FLOPs left out", _percent(flops)),
            ("cache, MiB", f"{m['peak_cache_bytes'] / 2**20:.1f}"),
            ("device", f"{m['machine']['device']} ({m['machine']['isa']})"),
        ]

    def to_html(self) -> str:
        """One self-contained page, as `flashomni generate --report` writes it: steps, layers, memory, what
        ran dense, and the symbols of every head where `keep_symbols` kept them. No scripts, no network."""
        if not self._models:
            return _core.html_page("FlashOmni", "<p>No run yet.</p>")
        parts = [
            _core.html_section(m["model"], _core.html_facts(self._facts(m))) + sections
            for m, sections in zip(self._models, self._sections, strict=True)
        ]
        return _core.html_page("FlashOmni: " + ", ".join(m["model"] for m in self._models), "".join(parts))

    def _repr_html_(self) -> str:
        # In a frame, so that the page's style stays its own.
        return f'<iframe style="width:100%;height:40em;border:0" srcdoc="{html.escape(self.to_html())}"></iframe>'

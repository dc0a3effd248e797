# SPDX-License-Identifier: Apache-2.0
"""The report of a run, in the words and numbers of the command line's."""

from __future__ import annotations

import html
from typing import Any


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


class Report:
    """What each transformer of a pipeline did in a run. `str()` is for people, `to_dict()` for programs
    (the fields of `flashomni ... --json`), `to_html()` for browsers; notebooks show the last."""

    def __init__(self, models: list[dict[str, Any]]):
        self._models = models

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

    def to_html(self) -> str:
        """A table of the steps under the lines of the text; no scripts, no outside resources."""
        parts = []
        for m in self._models:
            parts.append("<pre>" + html.escape("\n".join(self._lines(m))) + "</pre>")
            rows = "".join(
                f"<tr><td>{s['step']}</td><td>{html.escape(s['kind'])}</td>"
                f"<td>{_percent(s['attention_sparsity'])}</td><td>{s['seconds']:.3f}</td>"
                f"<td>{html.escape(', '.join(f'{n} {k}' for k, n in s['layers'].items()))}</td></tr>"
                for s in m["steps"]
            )
            parts.append(
                "<table><tr><th>step</th><th>kind</th><th>attention skipped</th><th>seconds</th>"
                f"<th>layers</th></tr>{rows}</table>"
            )
        return "\n".join(parts) if parts else "<pre>no run yet</pre>"

    _repr_html_ = to_html

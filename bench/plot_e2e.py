#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stacked bars from the JSON of `flashomni bench e2e`: where the time of a Full, an Update and a Dispatch step goes.

  bench/plot_e2e.py OUT.png E2E.json [MORE.json ...]

One panel a file, one bar a way of generating and kind of step. Needs matplotlib.
"""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

KINDS = ("full", "update", "dispatch")
GROUPS = {
    "attention": "attention",
    "gemm_qkv": "Q, K, V projections",
    "gemm_q": "Q, K, V projections",
    "gemm_o": "output projection",
    "linear": "other linears",
}
COLOURS = {
    "attention": "#3b6fb6",
    "Q, K, V projections": "#e08a3c",
    "output projection": "#57a05a",
    "other linears": "#9a9a9a",
    "everything else": "#c34d4d",
}


def group_of(op):
    return GROUPS.get(op.split()[0].removesuffix("_update"), "everything else")


def bars(document):
    """[(label, {group: ms})], the dense step first, then every other way's Update and Dispatch step."""
    out = []
    for pattern in document["runs"]:
        for kind in KINDS:
            if kind == "full" and pattern != "dense":
                continue
            parts = {}
            for row in document["rows"]:
                is_op = row["op"] != "generation" and not row["op"].endswith(" step")
                if row["pattern"] == pattern and row.get("step") == kind and is_op:
                    group = group_of(row["op"])
                    parts[group] = parts.get(group, 0) + row["ms_median"]
            if parts:
                out.append((f"{pattern}, {kind}", parts))
    return sorted(out, key=lambda bar: not bar[0].startswith("dense"))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    documents = []
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            documents.append(json.load(file))
    figure, panels = plt.subplots(1, len(documents), figsize=(5.2 * len(documents), 4.8), squeeze=False)
    for axes, document in zip(panels[0], documents):
        for x, (label, parts) in enumerate(bars(document)):
            bottom = 0
            for group, colour in COLOURS.items():
                axes.bar(x, parts.get(group, 0), bottom=bottom, color=colour, width=.7)
                bottom += parts.get(group, 0)
            axes.text(x, bottom, f"{bottom:.0f}", ha="center", va="bottom", fontsize=8)
        labels = [label for label, _ in bars(document)]
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
        axes.set_title(f"{document['model']['name']}, {document['settings']['tokens']} tokens", fontsize=10)
        axes.set_ylabel("ms a step")
        axes.spines[["top", "right"]].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in COLOURS.values()]
    figure.legend(handles, COLOURS.keys(), loc="upper center", ncol=len(COLOURS), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, .94))
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()

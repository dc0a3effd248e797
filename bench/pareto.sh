#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Pareto curves of all strategies on the bundled model: bench/pareto.json over 32 prompts, 20 steps
# (its warm-ups and intervals are for that). An hour or two on two cores; interrupted, it goes on
# where it stopped. PROMPTS=4 for a first look; more prompts or configs may be added later.
#
#   bench/pareto.sh
#   PROMPTS=4 bench/pareto.sh
#   JOBS=8 bench/pareto.sh --threads 2     eight processes side by side, for machines with many cores
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export FLASHOMNI=${FLASHOMNI:-build/release/bin/flashomni}
out=${OUT:-out/pareto}
mkdir -p "$out"
head -n "${PROMPTS:-32}" bench/prompts32.txt > "$out/prompts.txt"
bench/sweep_parts.py --jobs "${JOBS:-1}" bench/pareto.json --prompts "$out/prompts.txt" \
  --out-dir "$out" --steps 20 --report "$out/pareto.html" "$@"

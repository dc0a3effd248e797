#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Pareto curves of all strategies on the bundled model: bench/pareto.json over 32 prompts. Hours on
# two cores; interrupted, it goes on where it stopped. PROMPTS=4 for a first look.
#
#   bench/pareto.sh                 everything
#   PROMPTS=4 bench/pareto.sh --steps 20
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

flashomni=${FLASHOMNI:-build/release/bin/flashomni}
out=${OUT:-out/pareto}
mkdir -p "$out"
head -n "${PROMPTS:-32}" bench/prompts32.txt > "$out/prompts.txt"
"$flashomni" sweep bench/pareto.json --prompts "$out/prompts.txt" --out-dir "$out" \
  --report "$out/pareto.html" "$@"

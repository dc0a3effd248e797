#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Quality and speed of the presets on the bundled model: 16 prompts, dense and sparse interleaved from
# the same seed. Writes bench/results/<date>-cpu-*.json; bench/tables.py makes tables of them. About
# an hour on two cores; run it on a quiet machine.
#
#   bench/quality.sh                        everything
#   bench/quality.sh 50 quality balanced    these presets at 50 steps
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

flashomni=${FLASHOMNI:-build/release/bin/flashomni}
results=bench/results
date=$(date -u +%Y-%m-%d)
pictures=out/quality
mkdir -p "$results" "$pictures"

measure() {  # steps preset
  "$flashomni" compare --prompts bench/prompts16.txt --seed 1 --steps "$1" --preset "$2" --quiet \
    --out-dir "$pictures" --json "$results/$date-cpu-$2-$1-steps.json"
  echo "$2, $1 steps: done"
}

if (($# >= 2)); then
  for preset in "${@:2}"; do measure "$1" "$preset"; done
  exit 0
fi
for steps in 50 28 20; do
  for preset in quality balanced fast; do measure "$steps" "$preset"; done
done
"$flashomni" compare "3d red apple" "flat ambulance" "outline pizza" "classic sunflower" --seed 1 \
  --steps 50 --preset balanced --ablation --quiet --out-dir "$pictures" \
  --json "$results/$date-cpu-ablation-50-steps.json"

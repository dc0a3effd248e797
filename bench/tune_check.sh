#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Whether `tune` keeps its promise on prompts outside of its search: tunes for GOAL dB on 24 of the
# 48 prompts of bench/prompts_fresh48.txt, on which nothing was developed (half of the 24 are its own
# held-out check), then draws the other 24 with the config it chose. 20 minutes on two cores.
# Interrupted, it goes on.
#
#   bench/tune_check.sh                     32 dB, the first 24
#   GOAL=36 HALF=2 bench/tune_check.sh      another goal, the last 24
#   BUDGET='--dense-runs 97' ...            bounded by work instead of 14.5 minutes
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

flashomni=${FLASHOMNI:-build/release/bin/flashomni}
goal=${GOAL:-32}
half=${HALF:-1}
out=${OUT:-out/tune-check-$goal-$half}
steps=${STEPS:-20}
read -r -a budget <<< "${BUDGET:---minutes 14.5}"
mkdir -p "$out"
if [[ $half == 1 ]]; then search=head others=tail; else search=tail others=head; fi
"$search" -n 24 bench/prompts_fresh48.txt > "$out/prompts.txt"
"$others" -n 24 bench/prompts_fresh48.txt > "$out/others.txt"
"$flashomni" tune --target-psnr "$goal" --steps "$steps" "${budget[@]}" --cost flops \
  --prompts "$out/prompts.txt" --work-dir "$out/runs" -o "$out/tuned.json" "$@"
"$flashomni" compare --config "$out/tuned.json" --steps "$steps" --prompts "$out/others.txt" \
  --out-dir "$out" --json "$out/others.json" "$@"

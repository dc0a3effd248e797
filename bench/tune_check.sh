#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Whether `tune` keeps its promise on prompts outside of its search: tunes for GOAL dB on the first 24 prompts
# of bench/prompts32.txt (half of them its own held-out check), then draws the other 8 and the 32 of
# bench/prompts_blind.txt with the config it chose. 25 minutes on two cores. Interrupted, it goes on.
#
#   bench/tune_check.sh                32 dB
#   GOAL=35 bench/tune_check.sh        another goal
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

flashomni=${FLASHOMNI:-build/release/bin/flashomni}
goal=${GOAL:-32}
out=${OUT:-out/tune-check-$goal}
steps=${STEPS:-20}
mkdir -p "$out"
head -n 24 bench/prompts32.txt > "$out/prompts.txt"
{ tail -n 8 bench/prompts32.txt; cat bench/prompts_blind.txt; } > "$out/blind.txt"
"$flashomni" tune --target-psnr "$goal" --steps "$steps" --minutes 14 --cost flops \
  --prompts "$out/prompts.txt" --work-dir "$out/runs" -o "$out/tuned.json" "$@"
"$flashomni" compare --config "$out/tuned.json" --steps "$steps" --prompts "$out/blind.txt" \
  --out-dir "$out" --json "$out/blind.json" "$@"

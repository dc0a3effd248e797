#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/sensitivity.md: one option of flashomni changed at a time on the bundled model. Interrupted, it
# goes on where it stopped.
#
#   bench/sensitivity.sh            eight prompts, 20 steps
#   PROMPTS=16 bench/sensitivity.sh --quiet    other numbers of prompts, further flags of sweep
#   JOBS=8 bench/sensitivity.sh --threads 2    eight processes side by side
#   bench/sensitivity.sh --device cuda         half a minute on a GPU
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export FLASHOMNI=${FLASHOMNI:-build/release/bin/flashomni}
out=${OUT:-out/sensitivity}
mkdir -p "$out"
gpu=
[[ " $* " != *" --device cuda "* ]] || gpu=--gpu
bench/sensitivity.py config $gpu > "$out/config.json"
head -n "${PROMPTS:-8}" bench/prompts16.txt > "$out/prompts.txt"
bench/sweep_parts.py --jobs "${JOBS:-1}" "$out/config.json" --prompts "$out/prompts.txt" --out-dir "$out" \
  --steps 20 "$@"
bench/sensitivity.py table "$out/sweep.json" > docs/sensitivity.md

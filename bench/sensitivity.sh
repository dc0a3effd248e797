#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# docs/sensitivity.md: one option of flashomni changed at a time on the bundled model. Interrupted, it
# goes on where it stopped.
#
#   bench/sensitivity.sh                 four prompts, the model's own number of steps
#   bench/sensitivity.sh --steps 50 ...  further flags of flashomni sweep
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

flashomni=${FLASHOMNI:-build/release/bin/flashomni}
out=${OUT:-out/sensitivity}
mkdir -p "$out"
bench/sensitivity.py config > "$out/config.json"
[[ -s $out/prompts.txt ]] || head -n "${PROMPTS:-4}" bench/prompts16.txt > "$out/prompts.txt"
"$flashomni" sweep "$out/config.json" --prompts "$out/prompts.txt" --out-dir "$out" --quiet "$@"
bench/sensitivity.py table "$out/sweep.json" > docs/sensitivity.md

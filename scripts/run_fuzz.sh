#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fuzzes every reader of foreign files with libFuzzer under AddressSanitizer and UBSan (clang). Stops
# at the first finding, which is left in build/fuzz/work/NAME-crash-*.
#
#   scripts/run_fuzz.sh 10000000           that many executions of each target
#   scripts/run_fuzz.sh 100000 json image  of these targets only
#   scripts/run_fuzz.sh --merge            adds what earlier runs found to the committed corpora
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Short inputs run fast, and every rule of these formats fits into them.
declare -A max_length=([image]=1024 [json]=384 [npz]=1024 [safetensors]=512 [symbols]=256 [tokenizer]=384)

usage() {
  echo "usage: scripts/run_fuzz.sh EXECUTIONS [TARGET...] | --merge [TARGET...]" >&2
  exit 2
}
(($# >= 1)) || usage
count=$1
shift
[[ "$count" == --merge || "$count" =~ ^[0-9]+$ ]] || usage
targets=("$@")
((${#targets[@]})) || targets=(image json npz safetensors symbols tokenizer)
for target in "${targets[@]}"; do
  [[ -n "${max_length[$target]:-}" ]] || usage
done

cmake --preset fuzz > /dev/null
cmake --build --preset fuzz > /dev/null

for target in "${targets[@]}"; do
  program=build/fuzz/tests/fuzz_$target
  work=build/fuzz/work/$target
  corpus=tests/fuzz/corpus/$target
  mkdir -p "$work"
  if [[ "$count" == --merge ]]; then
    "$program" -merge=1 -max_len="${max_length[$target]}" "$corpus" "$work" 2> /dev/null
    echo "$target: $(find "$corpus" -type f | wc -l) files in the corpus"
    continue
  fi
  log=build/fuzz/work/$target.log
  if ! "$program" -runs="$count" -max_len="${max_length[$target]}" -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="build/fuzz/work/$target-" \
    "$work" "$corpus" 2> "$log"; then
    tail -n 40 "$log" >&2
    echo "$target: a finding after $(grep -oE '^#[0-9]+' "$log" | tail -1 | tr -d '#') executions" >&2
    exit 1
  fi
  done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$target: $done_runs executions, no finding"
done

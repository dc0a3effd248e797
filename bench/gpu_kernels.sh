#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every kernel of the CUDA backend over its sweep of sizes and sparsities, for the tables of
# docs/performance.md. One GPU, about two minutes.
#
#   bench/gpu_kernels.sh [PROGRAM [OUT_PREFIX]]      build/release/bin/flashomni, bench/results/DATE-gpu
#
# Writes OUT_PREFIX-NAME.json, where NAME is that of a sweep below; a file holds all of its sizes.
set -euo pipefail

program=${1:-build/release/bin/flashomni}
prefix=${2:-bench/results/$(date +%F)-gpu}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# bench FILE ARGUMENT...: one run.
bench() {
  local file=$1
  shift
  "$program" bench "$@" --device cuda --dtype bf16 --heads 24 --head-dim 128 --repeats 15 --quiet --json "$parts/$file"
}
# collect NAME: what has been run since the last time, in one document.
collect() {
  python3 - "$prefix-$1.json" "$parts"/*.json << 'PYTHON'
import json, os, sys

documents = [json.load(open(path)) for path in sys.argv[2:]]
documents.sort(key=lambda d: d["rows"][0]["n"])
whole = documents[0]
# Folders of the machine that it ran on say nothing to others.
whole["command"] = " && ".join(" ".join(map(os.path.basename, d["command"].split())) for d in documents)
whole["rows"] = [row for d in documents for row in d["rows"]]
if "copy_gb_per_s" in whole:
    whole["copy_gb_per_s"] = {str(d["rows"][0]["n"]): d["copy_gb_per_s"] for d in documents}
with open(sys.argv[1], "w") as file:
    json.dump(whole, file, indent=1)
    file.write("\n")
print("wrote", sys.argv[1])
PYTHON
  rm "$parts"/*.json
}

for n in 1024 2048 4608 8192 16896 33280; do
  bench "$n.json" attention --n "$n" --block 128 --sparsity 0.02,0.05,0.1,0.25,0.5,0.75,0.9
done
collect attention-sweep
for op in gemm-q gemm-qkv gemm-o; do
  for n in 4608 16896 33280; do
    bench "$n.json" "$op" --n "$n" --block 128 --sparsity 0,0.25,0.5,0.75,0.9
  done
  collect "$op"
done
for n in 4608 16896 33280; do
  bench "$n.json" gemm-o --planes 1 --n "$n" --block 128 --sparsity 0,0.25,0.5,0.75,0.9
done
collect gemm-o-1-plane
for n in 1024 2048 4608 8192 16896 33280; do
  bench "$n.json" symbols --n "$n" --block 128
done
collect symbols
for op in attention gemm-q gemm-o; do
  bench "$op.json" "$op" --isa portable --n 16896 --block 128
done
collect portable
bench 64.json attention --n 33280 --block 64 --sparsity 0.25,0.5,0.75,0.9
collect attention-blocks-64

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs clang-tidy, with the checks of .clang-tidy, on the library's sources.
#
#   scripts/run_tidy.sh                          everything below
#   scripts/run_tidy.sh src/core/plan.cc ...     these files
#
# Wants a configured build folder for the compile commands: BUILD, by default build/release. Left
# out: src/cpu, whose kernels are compiled once per instruction set, so that one file takes minutes
# (the sanitizer runs look at it instead), and src/cuda, which clang-tidy cannot read.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

build=${BUILD:-build/release}
if [[ ! -f $build/compile_commands.json ]]; then
  echo "run_tidy.sh: no compile_commands.json in $build; configure it first, with ./test.sh" >&2
  exit 1
fi

if (($# == 0)); then
  mapfile -t files < <(git ls-files -- 'src/*.cc' 'tools/*.cc' ':!src/cpu' ':!src/cuda')
  set -- "${files[@]}"
fi

# One file a process, as many as there are cores; each prints in one piece. The compiler of the
# build is gcc, some of whose warning flags clang does not know.
check() {
  local output
  output=$(clang-tidy -p "$1" --quiet --extra-arg=-Wno-unknown-warning-option "$2" 2>&1) && return
  printf '%s\n' "$output" | grep -v 'warnings\{0,1\} .*generated\.$'
  return 1
}
export -f check

if ! printf '%s\0' "$@" | xargs -0 -P "${JOBS:-$(nproc)}" -I{} bash -c 'check "$@"' _ "$build" {}; then
  echo "clang-tidy: problems in the files above" >&2
  exit 1
fi
echo "clang-tidy: $# files, all well"

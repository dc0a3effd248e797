#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the smoke set of the GPU tests under every tool of compute-sanitizer, one after the other:
# each kernel of the backend once or more, in sizes that the tools can follow. Ends with a failure if
# any tool reports anything. Needs a GPU and compute-sanitizer (with the CUDA toolkit).
#
#   scripts/gpu_sanitize.sh [TEST_PROGRAM] [TOOL ...]      build/release/tests/test_cuda, all tools
set -euo pipefail

program=${1:-build/release/tests/test_cuda}
shift || true
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck initcheck synccheck)
command -v compute-sanitizer > /dev/null || { echo "no compute-sanitizer on the PATH" >&2; exit 2; }
[ -x "$program" ] || { echo "$program is no program; build the tests first" >&2; exit 2; }

failed=()
for tool in "${tools[@]}"; do
  echo "== $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 3 --print-limit 20 \
    "$program" --gtest_filter='CudaSmoke.*' --gtest_brief=1 || failed+=("$tool")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }

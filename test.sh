#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing, builds FlashOmni with its tests and runs them; ends with ctest's summary.
#
#   ./test.sh                       optimised build, every test that needs no GPU
#   ./test.sh --gpu                 the GPU tests too
#   ./test.sh --preset asan         debug, asan (with UBSan) or tsan builds instead of release
#   ./test.sh --only core,cpu       build and run the tests of these folders of tests/
#   ./test.sh -R symbols            anything else goes to ctest
#
# FLASHOMNI_CMAKE_ARGS holds more arguments for cmake (-DFLASHOMNI_WERROR=ON), JOBS the number of
# parallel compilers and tests (default: the cores of this machine).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

preset=release
gpu=false
ctest_args=()
targets=()
while (($#)); do
  case "$1" in
    --gpu) gpu=true ;;
    --preset)
      preset=${2:?"--preset wants a name: release, debug, asan or tsan"}
      shift
      ;;
    --only)
      areas=${2:?"--only wants folders of tests/, such as core,cpu"}
      for area in ${areas//,/ }; do targets+=(--target "test_$area"); done
      ctest_args+=(--label-regex "^(${areas//,/|})\$")
      shift
      ;;
    -h | --help)
      sed -n '4,13s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) ctest_args+=("$1") ;;
  esac
  shift
done

jobs=${JOBS:-$(nproc)}
read -ra cmake_args <<< "${FLASHOMNI_CMAKE_ARGS:-}"

scripts/install_deps.sh --tests
if [[ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ]] && command -v ccache > /dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
cmake --preset "$preset" -DFLASHOMNI_BUILD_TESTS=ON "${cmake_args[@]}"

# What a sanitizer reports ends the test. Set before the build, which starts the test programs once
# to ask them for their tests.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
# The thread sanitizer of gcc 12 cannot start where addresses are randomised by more than 28 bits.
run=()
if [[ $preset == tsan ]] && setarch --addr-no-randomize true 2> /dev/null; then
  run=(setarch --addr-no-randomize)
fi
"${run[@]}" cmake --build "build/$preset" --parallel "$jobs" "${targets[@]}"

if ! $gpu; then
  ctest_args+=(--label-exclude '^gpu$')
elif ! nvidia-smi > /dev/null 2>&1; then
  echo "no GPU: gpu tests skipped"
  ctest_args+=(--label-exclude '^gpu$')
fi
"${run[@]}" ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --parallel "$jobs" \
  --output-junit ctest.xml "${ctest_args[@]}"

# The Python package is built by pip, not by the build above.
if ((${#targets[@]} == 0)) && [[ $preset == release ]]; then
  if python3 -c 'import torch, diffusers, flashomni, pytest' 2> /dev/null; then
    python3 -m pytest -q python/tests
  else
    echo "PYTHON TESTS SKIPPED: python3 has not all of torch, diffusers, pytest and flashomni;" \
      "scripts/test_python.sh installs and runs them"
  fi
fi

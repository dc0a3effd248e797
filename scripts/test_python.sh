#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds and tests the Python package in a virtual environment of its own (build/venv-python), the
# way a user would: `pip install .` with torch present, then pytest. Fetches torch, diffusers and
# their friends from PyPI on the first run (some GiB).
#
#   scripts/test_python.sh                 everything
#   scripts/test_python.sh -k flux         anything else goes to pytest
#
# PYTHON names the interpreter (default python3), FLASHOMNI_CMAKE_ARGS more arguments for cmake
# (-DFLASHOMNI_CUDA=OFF), VENV another folder for the environment.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

venv=${VENV:-$PWD/build/venv-python}
scripts/install_deps.sh --python
if [[ ! -x $venv/bin/pytest ]]; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/pip" install --quiet torch numpy diffusers transformers accelerate peft pytest
fi
if command -v ccache > /dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
CMAKE_ARGS="${FLASHOMNI_CMAKE_ARGS:-}" "$venv/bin/pip" install --quiet --no-deps --force-reinstall .
"$venv/bin/python" -m pytest -q python/tests "$@"

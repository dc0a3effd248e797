#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what FlashOmni is built from, on Debian 12 or newer and its relatives, without asking
# anything. What is there already is left alone, so that a second run needs neither network nor root.
#
#   scripts/install_deps.sh            the library and the command
#   scripts/install_deps.sh --tests    and the tests
#   scripts/install_deps.sh --python   and what `pip install .` needs
#   scripts/install_deps.sh --ci       and the checks: clang tools, fuzzers, sanitizers, ccache
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config libhwy-dev libcli11-dev nlohmann-json3-dev libpng-dev
          libjpeg-dev libwebp-dev libsentencepiece-dev)
for arg in "$@"; do
  case "$arg" in
    --tests) packages+=(libgtest-dev) ;;
    --python) packages+=(python3-dev python3-venv) ;;
    --ci) packages+=(libgtest-dev git python3 clang-format clang-tidy ccache clang libclang-rt-dev) ;;
    *)
      echo "install_deps.sh: unknown option '$arg', wanted --tests, --python or --ci" >&2
      exit 2
      ;;
  esac
done

fail() {
  printf 'install_deps.sh: %s\n' "$1" "FlashOmni needs: ${packages[*]}" >&2
  exit 1
}

command -v dpkg-query > /dev/null ||
  fail "this is not a Debian-like system; install the libraries below by its own means"

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" == installed ]] ||
    missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "Dependencies: all ${#packages[@]} packages are installed."
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo > /dev/null || fail "need root (or sudo) to install: ${missing[*]}"
  as_root=(sudo)
fi

# `env` because sudo drops the variable otherwise.
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 "$@" \
    < /dev/null
}
install_missing() { apt_get install -y --no-install-recommends "${missing[@]}"; }

echo "Dependencies: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists may be absent or stale; they are fetched only where the first try fails.
if ! install_missing > "$log" 2>&1; then
  if ! { apt_get update && install_missing; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install: ${missing[*]} (its last lines are above; is there a network?)"
  fi
fi
echo "Dependencies: done."

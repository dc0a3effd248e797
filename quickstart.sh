#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# From a fresh machine to pictures in one command: installs what is missing, builds the `flashomni`
# command and draws one prompt with the bundled model twice, dense and with FlashOmni, from the same
# seed. Pictures, the table and compare.json end up in out/. May be run again at any time.
#
#   ./quickstart.sh                 the default prompt
#   ./quickstart.sh flat blue fish  your own
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd -- "$root"

prompt=${*:-3d red apple}
build=build/release
out=out

echo "== 1/3 Dependencies"
scripts/install_deps.sh

echo "== 2/3 Build"
# A first build goes without tests (and GoogleTest); one that test.sh made is taken as it is.
configure=()
[[ -f $build/CMakeCache.txt ]] || configure+=(-DFLASHOMNI_BUILD_TESTS=OFF)
cmake --preset release "${configure[@]}" > /dev/null
cmake --build "$build" --target flashomni_cli

mkdir -p "$out"
echo "== 3/3 \"$prompt\", dense and with FlashOmni, 50 steps each"
"$build/bin/flashomni" compare "$prompt" --steps 50 --out-dir "$out" --json "$out/compare.json" |
  tee "$out/table.txt"

cat << END

Done. The pictures are in $root/$out:
$(cd -- "$out" && ls -1 -- *.png | sed 's/^/  /')
The table above is in $out/table.txt, all numbers are in $out/compare.json.

Try next:
  ./quickstart.sh flat blue fish
  $build/bin/flashomni generate "classic yellow star" --seed 7 -o star.png
  $build/bin/flashomni inspect "3d red apple" --out-dir out/symbols
  $build/bin/flashomni --help
END

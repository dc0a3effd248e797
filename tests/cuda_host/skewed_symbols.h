// SPDX-License-Identifier: Apache-2.0
//
// Symbols whose query blocks need very different numbers of kv blocks, for plans with many cuts.
#pragma once

#include "base/rng.h"
#include "flashomni/symbols.h"

namespace flashomni::testkit {

inline SparseSymbols skewed_symbols(const SymbolGeometry& g, Rng& rng) {
  SparseSymbols symbols(g);
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        if (rng.coin(0.3)) {
          symbols.set_c(b, h, i, false);
          continue;
        }
        const double share = rng.uniform() * rng.uniform() * rng.uniform();
        const int count = 1 + static_cast<int>(share * g.num_kv_blocks());
        for (int j = 0; j < g.num_kv_blocks(); ++j) symbols.set_s(b, h, i, j, j < count);
      }
    }
  }
  symbols.repair();
  return symbols;
}

// On a grid of 3 the second CTA is left with room for less than one kv block, in the middle of the
// tile that the other two share. (Keys and values of a head fill an L2 group, so head 1 comes
// last.)
inline SparseSymbols crowded_symbols() {
  const SymbolGeometry g{.batch = 1,
                         .heads = 2,
                         .q_tokens = 6 * 128,
                         .kv_tokens = 33000,
                         .block_q = 128,
                         .block_kv = 128};
  const int counts[2][6] = {{100, 95, 60, 50, 45, 10}, {60, 0, 0, 0, 0, 0}};
  SparseSymbols symbols(g);
  for (int h = 0; h < g.heads; ++h) {
    for (int i = 0; i < g.num_q_blocks(); ++i) {
      symbols.set_c(0, h, i, counts[h][i] > 0);
      for (int j = 0; j < g.num_kv_blocks(); ++j) symbols.set_s(0, h, i, j, j < counts[h][i]);
    }
  }
  return symbols;
}

}  // namespace flashomni::testkit

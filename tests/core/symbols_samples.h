// SPDX-License-Identifier: Apache-2.0
//
// Symbols for the tests of core: seeded random ones, and the worked example that
// docs/symbols_format.md spells out in every format.
#pragma once

#include <string>
#include <vector>

#include "base/rng.h"
#include "flashomni/symbols.h"

namespace flashomni {

inline std::string describe(const SymbolGeometry& g) {
  return "B=" + std::to_string(g.batch) + " H=" + std::to_string(g.heads) +
         " N=" + std::to_string(g.q_tokens) + "x" + std::to_string(g.kv_tokens) +
         " block=" + std::to_string(g.block_q) + "x" + std::to_string(g.block_kv);
}

// Small and odd: ragged and whole last blocks, one block to three words of blocks, 1 to 70 heads.
inline SymbolGeometry random_geometry(Rng& rng) {
  const auto tokens = [&rng](int block) {
    const int blocks = rng.coin(0.2) ? rng.range(60, 132) : rng.range(1, 20);
    return rng.coin(0.3) ? blocks * block : blocks * block - rng.range(1, block - 1);
  };
  SymbolGeometry g;
  g.batch = rng.range(1, 2);
  g.heads = rng.coin(0.1) ? rng.range(60, 70) : rng.range(1, 9);
  g.block_q = 32 << rng.range(0, 2);
  g.block_kv = 32 << rng.range(0, 2);
  g.q_tokens = tokens(g.block_q);
  g.kv_tokens = tokens(g.block_kv);
  return g;
}

// Bits set with a density drawn anew for every head, so that whole rows and heads come out full and
// empty too. Padding bits are zero; rows may be empty or carry S_s without S_c.
inline SparseSymbols random_bits(Rng& rng, const SymbolGeometry& g) {
  SparseSymbols a(g);
  const auto density = [&rng] { return rng.coin(0.2) ? double(rng.range(0, 1)) : rng.uniform(); };
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      const double density_c = density();
      const double density_s = density();
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        a.set_c(b, h, i, rng.coin(density_c));
        for (int j = 0; j < g.num_kv_blocks(); ++j) a.set_s(b, h, i, j, rng.coin(density_s));
      }
    }
  }
  return a;
}

// Ragged blocks of 1 to block_q tokens over some sequence.
struct RaggedSample {
  SymbolGeometry geometry;
  std::vector<int32_t> starts = {0};
};
inline RaggedSample random_ragged(Rng& rng) {
  RaggedSample out;
  SymbolGeometry& g = out.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 4);
  g.block_q = g.block_kv = 32 << rng.range(0, 2);
  g.ragged_blocks = rng.coin(0.2) ? rng.range(60, 132) : rng.range(1, 20);
  for (int i = 0; i < g.ragged_blocks; ++i) {
    out.starts.push_back(out.starts.back() + rng.range(1, g.block_q));
  }
  g.q_tokens = g.kv_tokens = out.starts.back();
  return out;
}
inline SparseSymbols random_ragged_symbols(Rng& rng) {
  const RaggedSample sample = random_ragged(rng);
  SparseSymbols a(sample.geometry, sample.starts);
  const double density = rng.uniform();
  for (int b = 0; b < a.geometry().batch; ++b) {
    for (int h = 0; h < a.geometry().heads; ++h) {
      for (int i = 0; i < a.geometry().num_q_blocks(); ++i) {
        a.set_c(b, h, i, rng.coin(0.8));
        for (int j = 0; j < a.geometry().num_kv_blocks(); ++j) {
          a.set_s(b, h, i, j, rng.coin(density));
        }
      }
    }
  }
  a.repair();
  return a;
}

inline SparseSymbols random_symbols(Rng& rng, const SymbolGeometry& g) {
  SparseSymbols a = random_bits(rng, g);
  a.repair();
  return a;
}

// H = 2, nQ = 3, nKV = 5; the last block of both axes is ragged.
//   head 0:  ##...    head 1:  #...#
//            -----             .###.
//            #####             -----
inline SymbolGeometry worked_geometry() {
  return {.batch = 1, .heads = 2, .q_tokens = 150, .kv_tokens = 300, .block_q = 64, .block_kv = 64};
}

inline SparseSymbols worked_example() {
  SparseSymbols a(worked_geometry());
  const char* rows[2][3] = {{"11000", "", "11111"}, {"10001", "01110", ""}};
  for (int h = 0; h < 2; ++h) {
    for (int i = 0; i < 3; ++i) {
      const std::string row = rows[h][i];
      a.set_c(0, h, i, !row.empty());
      for (int j = 0; j < 5; ++j) a.set_s(0, h, i, j, !row.empty() && row[size_t(j)] == '1');
    }
  }
  return a;
}

}  // namespace flashomni

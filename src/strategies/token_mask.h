// SPDX-License-Identifier: Apache-2.0
//
// Block symbols from a rule on tokens of the grid.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "flashomni/strategy.h"
#include "strategies/schedule.h"

namespace flashomni::strategies {

// A grid of at least two frames for patterns over frames: a picture's rows become its frames. Fails
// by name without a grid.
inline Result<TokenGrid> framed_grid(const char* strategy, const TokenGrid& grid) {
  if (grid.tokens() < 1) {
    return unsupported("strategy " + std::string(strategy) +
                       ": is a pattern over frames, and this model gives no token grid");
  }
  if (grid.frames > 1) return grid;
  return TokenGrid{grid.rows, 1, grid.cols};
}

// Neighbouring vision tokens [first, last] of one block that share a key (their frame, their tile).
struct Piece {
  int key = 0;
  int first = 0;
  int last = 0;
};

// One head's S_s: a block pair is kept if keep(a, b) for any pair of their pieces, or where it
// holds text, if `protect_text`. key_of numbers the position of a vision token. `starts`: of ragged
// blocks, or empty.
template <class KeyOf, class Keep>
SparseSymbols piece_pattern(const SequenceInfo& s, int block_q, int block_kv, bool protect_text,
                            std::span<const int32_t> starts, const KeyOf& key_of,
                            const Keep& keep) {
  SymbolGeometry g;
  g.batch = 1;
  g.heads = 1;
  g.q_tokens = g.kv_tokens = s.tokens;
  g.block_q = block_q;
  g.block_kv = block_kv;
  if (!starts.empty()) g.ragged_blocks = static_cast<int>(starts.size()) - 1;
  SparseSymbols out(g, starts);
  struct Block {
    std::vector<Piece> pieces;
    bool text = false;
  };
  auto blocks_of = [&](int block) {
    std::vector<Block> blocks;
    for (int t = 0; t < s.tokens; ++t) {
      const bool begins = starts.empty() ? t % block == 0 : t == starts[blocks.size()];
      if (begins) blocks.emplace_back();
      Block& b = blocks.back();
      if (t >= s.text_begin && t < s.text_end) {
        b.text = true;
        continue;
      }
      const int position = t < s.text_begin ? t : t - (s.text_end - s.text_begin);
      const int key = key_of(position);
      if (!b.pieces.empty() && b.pieces.back().key == key) {
        b.pieces.back().last = position;
      } else {
        b.pieces.push_back({key, position, position});
      }
    }
    return blocks;
  };
  const std::vector<Block> rows = blocks_of(block_q), columns = blocks_of(block_kv);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < columns.size(); ++j) {
      bool kept = protect_text && (rows[i].text || columns[j].text);
      for (size_t a = 0; a < rows[i].pieces.size() && !kept; ++a) {
        kept = std::any_of(columns[j].pieces.begin(), columns[j].pieces.end(),
                           [&](const Piece& b) { return keep(rows[i].pieces[a], b); });
      }
      if (!kept) out.set_s(0, 0, int(i), int(j), false);
    }
  }
  out.repair();
  return out;
}

// Tokens between the nearest ones of two intervals, 0 where they meet.
inline int interval_gap(int first_a, int last_a, int first_b, int last_b) {
  return std::max({0, first_a - last_b, first_b - last_a});
}

// The same pattern for every head and batch item.
inline SparseSymbols for_all_heads(const SparseSymbols& one, const SequenceInfo& s) {
  SymbolGeometry g = one.geometry();
  g.batch = s.batch;
  g.heads = s.heads;
  SparseSymbols out(g, one.starts());
  for (int group = 0; group < g.batch * g.heads; ++group) {
    std::copy(one.c_words().begin(), one.c_words().end(),
              out.c_words().begin() + group * std::ptrdiff_t(one.c_words().size()));
    std::copy(one.s_words().begin(), one.s_words().end(),
              out.s_words().begin() + group * std::ptrdiff_t(one.s_words().size()));
  }
  return out;
}

}  // namespace flashomni::strategies

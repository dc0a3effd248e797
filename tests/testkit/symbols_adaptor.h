// SPDX-License-Identifier: Apache-2.0
//
// Between packed symbols and the oracle's masks. Decodes the words itself, bit by bit from the
// layout in symbols.h, so that a fault in the library's own helpers cannot hide in the truth.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flashomni/symbols.h"
#include "reference/block_mask.h"

namespace flashomni::testkit {

// Bit k of row r is bit k % 64 of word r * words + k / 64; returns [rows, bits] bytes of 0 or 1.
inline std::vector<uint8_t> unpack_rows(std::span<const uint64_t> words, int64_t rows, int bits) {
  const size_t row_words = (static_cast<size_t>(bits) + 63) / 64;
  std::vector<uint8_t> out;
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    for (size_t k = 0; k < static_cast<size_t>(bits); ++k) {
      out.push_back((words[r * row_words + k / 64] >> (k % 64)) & 1);
    }
  }
  return out;
}

// Are all bits past the end of every row zero?
inline bool padding_is_zero(std::span<const uint64_t> words, int64_t rows, int bits) {
  const size_t row_words = (static_cast<size_t>(bits) + 63) / 64;
  if (bits % 64 == 0) return true;
  for (size_t r = 1; r <= static_cast<size_t>(rows); ++r) {
    if (words[r * row_words - 1] >> (bits % 64)) return false;
  }
  return true;
}

inline reference::BlockMask to_block_mask(const SymbolGeometry& geometry,
                                          std::span<const int32_t> starts,
                                          std::span<const uint64_t> c,
                                          std::span<const uint64_t> s) {
  const int64_t heads = int64_t{1} * geometry.batch * geometry.heads;
  return {.batch = geometry.batch,
          .heads = geometry.heads,
          .q_tokens = geometry.q_tokens,
          .kv_tokens = geometry.kv_tokens,
          .block_q = geometry.block_q,
          .block_kv = geometry.block_kv,
          .c = unpack_rows(c, heads, geometry.num_q_blocks()),
          .s = unpack_rows(s, heads * geometry.num_q_blocks(), geometry.num_kv_blocks()),
          .starts = {starts.begin(), starts.end()}};
}

inline reference::BlockMask to_block_mask(const SparseSymbols& symbols) {
  return to_block_mask(symbols.geometry(), symbols.starts(), symbols.c_words(), symbols.s_words());
}

}  // namespace flashomni::testkit

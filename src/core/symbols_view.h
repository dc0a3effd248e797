// SPDX-License-Identifier: Apache-2.0
//
// Counting, checking and repairing symbols that live in somebody else's host memory. SparseSymbols
// and the host backends share these, so a figure means the same wherever it was taken.
#pragma once

#include <cstdint>
#include <span>

#include "base/bits.h"
#include "flashomni/symbols.h"

namespace flashomni {

// Read-only symbols in host memory. A *group* is one (b, h) pair, numbered b * heads + h.
struct ConstSymbolsView {
  SymbolGeometry geometry;
  const uint64_t* c = nullptr;
  const uint64_t* s = nullptr;
  const int32_t* starts = nullptr;  // see SymbolsView

  // Implicit, so that every reader takes both forms.
  ConstSymbolsView(const SymbolsView& v) : geometry(v.geometry), c(v.c), s(v.s), starts(v.starts) {}
  ConstSymbolsView(const SparseSymbols& a)
      : geometry(a.geometry()),
        c(a.c_words().data()),
        s(a.s_words().data()),
        starts(a.starts().empty() ? nullptr : a.starts().data()) {}

  int num_groups() const { return geometry.batch * geometry.heads; }
  // S_c of a group, one bit a query block.
  const uint64_t* c_row(int group) const { return c + int64_t{group} * geometry.c_words(); }
  // S_s of a query block, one bit a kv block.
  const uint64_t* s_row(int group, int i) const {
    return s + (int64_t{group} * geometry.num_q_blocks() + i) * geometry.s_words();
  }
};

// Limits of SymbolGeometry::validate(). The last one bounds the memory of one layer's S_s to 256
// MiB and its number of (row, kv block) pairs to an int32, which index lists and plans rely on.
inline constexpr int kMaxSymbolBatch = 1024;
inline constexpr int kMaxSymbolHeads = 1024;
inline constexpr int kMaxSymbolTokens = 1 << 26;
inline constexpr int kMaxRaggedBlocks = kMaxSymbolTokens / 32;
inline constexpr int64_t kMaxSymbolWords = (int64_t{1} << 25) - 1;

// Padding bits are not counted, even if set.
SymbolCounts count_symbols(const ConstSymbolsView& a);
// Of the one group (b, h).
SymbolCounts count_symbols(const ConstSymbolsView& a, int group);

// Whether ragged blocks that start there hold 1 to `block` tokens each and all `tokens` together.
Status validate_starts(int64_t tokens, int block, std::span<const int32_t> starts);
// Also whether they are as many as the geometry says; blocks of one size have none.
Status validate_starts(const SymbolGeometry& geometry, std::span<const int32_t> starts);

// As SparseSymbols::validate. REQUIRES: the words and the starts are as many as the geometry says.
Status validate_symbols(const ConstSymbolsView& a);

// As SparseSymbols::repair. REQUIRES: a valid geometry.
void repair_symbols(const SymbolsView& a);

// Clears the bits past the last query block and past the last kv block.
void clear_padding(const SymbolsView& a);

// The kv block that holds the first token of query block i, or the last one if there is none.
int diagonal_block(const SymbolGeometry& geometry, int i);

}  // namespace flashomni

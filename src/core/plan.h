// SPDX-License-Identifier: Apache-2.0
//
// The plan of one layer's symbols: what the kernels would otherwise work out in every call. It is
// built once when the symbols change and lies in one caller-given block of memory, so that a step
// allocates nothing and a device can hold the same layout. This builder runs on the host.
//
// An *item* is one active query block of one head. Items are grouped by (b, h), so that a group's
// keys and values are loaded and packed once, and inside a group sorted by the number of kv blocks,
// most first. A second list orders all items most first, for balance across threads ("longest
// processing time first"). Ties are in (b, h, i) order: the same symbols give the same plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bits.h"
#include "core/symbols_view.h"

namespace flashomni {

struct PlanItem {
  int32_t b = 0;
  int32_t h = 0;
  int32_t i = 0;
  int32_t blocks = 0;  // kv blocks to compute, at least 1 in valid symbols
};

struct PlanHeader {
  SymbolGeometry geometry;
  int32_t num_items = 0;  // SymbolCounts::active_rows
  int32_t num_pairs = 0;  // SymbolCounts::active_pairs
  int32_t pad = 0;        // to a multiple of 8 bytes
};

// Where each part starts, in bytes from the start of the memory. With R = batch*heads*num_q_blocks:
struct PlanLayout {
  size_t header;         // PlanHeader
  size_t head_words;     // u64 [batch][num_q_blocks][head_words]: S_c with the heads as bits
  size_t items;          // PlanItem [R], the first num_items in use
  size_t order;          // i32 [R], indices into items, the first num_items in use
  size_t group_offsets;  // i32 [batch*heads + 1], items of a group are [offsets[g], offsets[g+1])
  size_t row_blocks;     // i32 [R], kv blocks to compute of every row, 0 where S_c is 0
  size_t histogram;      // i32 [num_kv_blocks + 1], scratch of the sort
  size_t bytes;          // of everything

  // REQUIRES: geometry.validate() is ok.
  explicit PlanLayout(const SymbolGeometry& geometry);
};

// Bytes a plan of these symbols needs. REQUIRES: geometry.validate() is ok.
size_t plan_bytes(const SymbolGeometry& geometry);

// Writes the plan; linear in the size of the symbols. REQUIRES: valid symbols in host memory, and
// plan_bytes() of memory at an address that is a multiple of 8.
void build_plan(const ConstSymbolsView& symbols, void* memory);

// Reads a plan that build_plan wrote, in place. The memory must outlive the reader.
class PlanReader {
 public:
  explicit PlanReader(const void* memory);

  const SymbolGeometry& geometry() const { return header().geometry; }
  int num_items() const { return header().num_items; }
  int num_pairs() const { return header().num_pairs; }

  // All items, grouped by (b, h).
  std::span<const PlanItem> items() const { return array<PlanItem>(layout_.items, num_items()); }
  // Indices into items(), longest first.
  std::span<const int32_t> order() const { return array<int32_t>(layout_.order, num_items()); }

  // Items of group (b, h) are items()[item_begin, item_end).
  int item_begin(int b, int h) const { return group_offset(group(b, h)); }
  int item_end(int b, int h) const { return group_offset(group(b, h) + 1); }

  // Kv blocks to compute in each of the num_q_blocks rows of (b, h); 0 where S_c is 0.
  std::span<const int32_t> row_blocks(int b, int h) const;

  // 64-bit words in a set of heads.
  int num_head_words() const { return static_cast<int>(words_for_bits(geometry().heads)); }
  // The heads with S_c = 1 in query block i: bit h%64 of word h/64.
  std::span<const uint64_t> active_heads(int b, int i) const;

 private:
  template <class T>
  std::span<const T> array(size_t offset, int64_t count) const {
    return {reinterpret_cast<const T*>(memory_ + offset), static_cast<size_t>(count)};
  }
  const PlanHeader& header() const { return array<PlanHeader>(0, 1).front(); }
  int group(int b, int h) const { return b * geometry().heads + h; }
  int group_offset(int g) const {
    return array<int32_t>(layout_.group_offsets + sizeof(int32_t) * static_cast<size_t>(g), 1)[0];
  }

  const std::byte* memory_;
  PlanLayout layout_;
};

}  // namespace flashomni

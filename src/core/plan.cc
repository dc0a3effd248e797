// SPDX-License-Identifier: Apache-2.0
#include "core/plan.h"

#include <algorithm>
#include <cassert>

namespace flashomni {
namespace {

// The parts of a plan, to be written.
struct PlanParts {
  PlanHeader* header;
  uint64_t* head_words;
  PlanItem* items;
  int32_t* order;
  int32_t* group_offsets;
  int32_t* row_blocks;
  int32_t* histogram;

  PlanParts(const PlanLayout& layout, void* memory) {
    std::byte* base = static_cast<std::byte*>(memory);
    header = reinterpret_cast<PlanHeader*>(base + layout.header);
    head_words = reinterpret_cast<uint64_t*>(base + layout.head_words);
    items = reinterpret_cast<PlanItem*>(base + layout.items);
    order = reinterpret_cast<int32_t*>(base + layout.order);
    group_offsets = reinterpret_cast<int32_t*>(base + layout.group_offsets);
    row_blocks = reinterpret_cast<int32_t*>(base + layout.row_blocks);
    histogram = reinterpret_cast<int32_t*>(base + layout.histogram);
  }
};

// S_c transposed: for every (b, i) the set of active heads.
void write_head_words(const ConstSymbolsView& symbols, uint64_t* out) {
  const SymbolGeometry& g = symbols.geometry;
  const int64_t words = words_for_bits(g.heads);
  const int64_t nq = g.num_q_blocks();
  std::fill_n(out, g.batch * nq * words, uint64_t{0});
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for_each_bit(symbols.c_row(b * g.heads + h), nq,
                   [&](int64_t i) { set_bit(out + (b * nq + i) * words, h, true); });
    }
  }
}

// Counts the kv blocks of every row, the active rows of every group and, for every number of
// blocks, the rows that have it. group_offsets[g] becomes the first item of group g - 1.
void count_rows(const ConstSymbolsView& symbols, const PlanParts& plan) {
  const SymbolGeometry& g = symbols.geometry;
  const int nq = g.num_q_blocks();
  const int nkv = g.num_kv_blocks();
  std::fill_n(plan.histogram, nkv + 1, 0);
  int32_t* blocks = plan.row_blocks;
  int32_t num_items = 0;
  int32_t num_pairs = 0;
  plan.group_offsets[0] = 0;
  for (int group = 0; group < symbols.num_groups(); ++group) {
    plan.group_offsets[group + 1] = num_items;
    const uint64_t* c_row = symbols.c_row(group);
    for (int i = 0; i < nq; ++i, ++blocks) {
      *blocks = 0;
      if (!get_bit(c_row, i)) continue;
      *blocks = static_cast<int32_t>(count_bits(symbols.s_row(group, i), 0, nkv));
      ++plan.histogram[*blocks];
      ++num_items;
      num_pairs += *blocks;
    }
  }
  *plan.header = {g, num_items, num_pairs, 0};
}

}  // namespace

PlanLayout::PlanLayout(const SymbolGeometry& geometry) {
  const size_t groups = static_cast<size_t>(geometry.batch) * static_cast<size_t>(geometry.heads);
  const size_t q_blocks = static_cast<size_t>(geometry.num_q_blocks());
  const size_t rows = groups * q_blocks;
  const size_t words = static_cast<size_t>(words_for_bits(geometry.heads));
  header = 0;
  head_words = header + sizeof(PlanHeader);
  items = head_words + sizeof(uint64_t) * static_cast<size_t>(geometry.batch) * q_blocks * words;
  order = items + sizeof(PlanItem) * rows;
  group_offsets = order + sizeof(int32_t) * rows;
  row_blocks = group_offsets + sizeof(int32_t) * (groups + 1);
  histogram = row_blocks + sizeof(int32_t) * rows;
  bytes = histogram + sizeof(int32_t) * (static_cast<size_t>(geometry.num_kv_blocks()) + 1);
}

size_t plan_bytes(const SymbolGeometry& geometry) {
  return PlanLayout(geometry).bytes;
}

void build_plan(const ConstSymbolsView& symbols, void* memory) {
  static_assert(sizeof(PlanHeader) % alignof(uint64_t) == 0);
  assert(reinterpret_cast<uintptr_t>(memory) % alignof(uint64_t) == 0);
  const SymbolGeometry& g = symbols.geometry;
  const PlanParts plan(PlanLayout(g), memory);
  write_head_words(symbols, plan.head_words);
  count_rows(symbols, plan);

  // From here histogram[n] is the place in the order of the next row with n blocks.
  int32_t place = 0;
  for (int n = g.num_kv_blocks(); n >= 0; --n) {
    const int32_t count = plan.histogram[n];
    plan.histogram[n] = place;
    place += count;
  }
  const int nq = g.num_q_blocks();
  int32_t row = 0;
  for (int group = 0; group < symbols.num_groups(); ++group, row += nq) {
    for_each_bit(symbols.c_row(group), nq, [&](int64_t i) {
      const int32_t r = row + static_cast<int32_t>(i);
      plan.order[plan.histogram[plan.row_blocks[r]]++] = r;
    });
  }
  // Dealing the sorted rows out to their groups keeps each group sorted, and turns every offset
  // from the beginning of the group before it into that group's end.
  for (int32_t k = 0; k < plan.header->num_items; ++k) {
    const int32_t r = plan.order[k];
    const int32_t group = r / nq;
    const int32_t item = plan.group_offsets[group + 1]++;
    plan.items[item] = {group / g.heads, group % g.heads, r % nq, plan.row_blocks[r]};
    plan.order[k] = item;
  }
}

PlanReader::PlanReader(const void* memory)
    : memory_(static_cast<const std::byte*>(memory)),
      layout_(static_cast<const PlanHeader*>(memory)->geometry) {}

std::span<const int32_t> PlanReader::row_blocks(int b, int h) const {
  const int nq = geometry().num_q_blocks();
  const size_t row = static_cast<size_t>(group(b, h)) * static_cast<size_t>(nq);
  return array<int32_t>(layout_.row_blocks + sizeof(int32_t) * row, nq);
}

std::span<const uint64_t> PlanReader::active_heads(int b, int i) const {
  const int words = num_head_words();
  const size_t row = static_cast<size_t>(b) * static_cast<size_t>(geometry().num_q_blocks()) +
                     static_cast<size_t>(i);
  return array<uint64_t>(layout_.head_words + sizeof(uint64_t) * row * static_cast<size_t>(words),
                         words);
}

}  // namespace flashomni

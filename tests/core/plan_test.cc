// SPDX-License-Identifier: Apache-2.0
//
// The plan against the symbols it was made from: every active row once, in the promised orders, and
// the sets of heads as S_c transposed.
#include "core/plan.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <tuple>
#include <vector>

#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

// Plan memory with a guard after it, filled so that nothing can pass for having been written.
class PlanMemory {
 public:
  PlanMemory(const SparseSymbols& a, uint8_t fill) : bytes_(plan_bytes(a.geometry())) {
    words_.resize((bytes_ + kGuardBytes) / sizeof(uint64_t) + 1);
    std::memset(words_.data(), fill, words_.size() * sizeof(uint64_t));
    fill_ = fill;
    build_plan(a, words_.data());
  }
  PlanReader reader() const { return PlanReader(words_.data()); }
  bool guard_intact() const {
    const auto* p = reinterpret_cast<const uint8_t*>(words_.data());
    for (size_t k = bytes_; k < words_.size() * sizeof(uint64_t); ++k) {
      if (p[k] != fill_) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuardBytes = 64;
  size_t bytes_;
  uint8_t fill_;
  std::vector<uint64_t> words_;
};

std::tuple<int, int, int> position(const PlanItem& item) {
  return {item.b, item.h, item.i};
}

// Items as "h i blocks", for the hand-made case.
std::vector<std::vector<int>> brief(std::span<const PlanItem> items) {
  std::vector<std::vector<int>> out;
  for (const PlanItem& item : items) out.push_back({item.h, item.i, item.blocks});
  return out;
}

TEST(Plan, WorkedExample) {
  const PlanMemory memory(worked_example(), 0xff);
  const PlanReader plan = memory.reader();
  EXPECT_EQ(plan.geometry(), worked_geometry());
  EXPECT_EQ(plan.num_items(), 4);
  EXPECT_EQ(plan.num_pairs(), 12);
  EXPECT_EQ(brief(plan.items()),
            (std::vector<std::vector<int>>{{0, 2, 5}, {0, 0, 2}, {1, 1, 3}, {1, 0, 2}}));
  const auto order = plan.order();
  EXPECT_EQ(std::vector(order.begin(), order.end()), (std::vector<int32_t>{0, 2, 1, 3}));
  EXPECT_EQ(plan.item_begin(0, 0), 0);
  EXPECT_EQ(plan.item_end(0, 0), 2);
  EXPECT_EQ(plan.item_begin(0, 1), 2);
  EXPECT_EQ(plan.item_end(0, 1), 4);
  EXPECT_EQ(plan.active_heads(0, 0)[0], 0b11u);
  EXPECT_EQ(plan.active_heads(0, 1)[0], 0b10u);
  EXPECT_EQ(plan.active_heads(0, 2)[0], 0b01u);
}

TEST(Plan, HoldsEveryActiveRowOnceInBothOrders) {
  Rng rng(1);
  for (int trial = 0; trial < 80; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    const PlanMemory memory(a, 0xff);
    const PlanReader plan = memory.reader();
    SCOPED_TRACE(describe(g));

    // Planned work is the popcount of the symbols.
    const SymbolCounts counts = a.counts();
    ASSERT_EQ(plan.num_items(), counts.active_rows);
    ASSERT_EQ(plan.num_pairs(), counts.active_pairs);
    int64_t planned = 0;
    std::set<std::tuple<int, int, int>> seen;
    for (const PlanItem& item : plan.items()) {
      planned += item.blocks;
      seen.insert(position(item));
      int64_t blocks = 0;
      for (int j = 0; j < g.num_kv_blocks(); ++j) blocks += a.s(item.b, item.h, item.i, j);
      ASSERT_EQ(item.blocks, blocks);
      ASSERT_TRUE(a.c(item.b, item.h, item.i));
    }
    ASSERT_EQ(planned, counts.active_pairs);
    ASSERT_EQ(seen.size(), plan.items().size());

    // Groups follow one another without gaps; inside, longest first, ties by i.
    int next = 0;
    for (int b = 0; b < g.batch; ++b) {
      for (int h = 0; h < g.heads; ++h) {
        ASSERT_EQ(plan.item_begin(b, h), next);
        next = plan.item_end(b, h);
        for (int k = plan.item_begin(b, h); k < next; ++k) {
          const PlanItem& item = plan.items()[static_cast<size_t>(k)];
          ASSERT_EQ(item.b, b);
          ASSERT_EQ(item.h, h);
          if (k == plan.item_begin(b, h)) continue;
          const PlanItem& before = plan.items()[static_cast<size_t>(k) - 1];
          ASSERT_TRUE(before.blocks > item.blocks ||
                      (before.blocks == item.blocks && before.i < item.i));
        }
      }
    }
    ASSERT_EQ(next, plan.num_items());

    // The order is a permutation of the items; longest first, ties by (b, h, i).
    std::set<int32_t> indices;
    const PlanItem* before = nullptr;
    for (const int32_t k : plan.order()) {
      ASSERT_GE(k, 0);
      ASSERT_LT(k, plan.num_items());
      indices.insert(k);
      const PlanItem& item = plan.items()[static_cast<size_t>(k)];
      if (before) {
        ASSERT_TRUE(before->blocks > item.blocks ||
                    (before->blocks == item.blocks && position(*before) < position(item)));
      }
      before = &item;
    }
    ASSERT_EQ(indices.size(), plan.items().size());
    ASSERT_TRUE(memory.guard_intact());
  }
}

TEST(Plan, HeadSetsAndRowCountsAreTheSymbolsTransposed) {
  Rng rng(2);
  for (int trial = 0; trial < 80; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    const PlanMemory memory(a, 0xff);
    const PlanReader plan = memory.reader();
    for (int b = 0; b < g.batch; ++b) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        const auto heads = plan.active_heads(b, i);
        ASSERT_EQ(heads.size(), g.heads > 64 ? 2u : 1u);
        int64_t active = 0;
        for (int h = 0; h < g.heads; ++h) {
          ASSERT_EQ(get_bit(heads.data(), h), a.c(b, h, i)) << describe(g);
          active += a.c(b, h, i);
          int blocks = 0;
          for (int j = 0; j < g.num_kv_blocks(); ++j) blocks += a.c(b, h, i) && a.s(b, h, i, j);
          ASSERT_EQ(plan.row_blocks(b, h)[static_cast<size_t>(i)], blocks) << describe(g);
        }
        // Nothing is set past the last head.
        ASSERT_EQ(count_bits(heads.data(), 0, kWordBits * plan.num_head_words()), active);
      }
    }
  }
}

TEST(Plan, DoesNotDependOnWhatTheMemoryHeld) {
  Rng rng(3);
  const SparseSymbols a = random_symbols(rng, {2, 70, 1000, 5000, 32, 64});
  const PlanMemory first(a, 0x00);
  const PlanMemory second(a, 0xff);
  const PlanReader p = first.reader();
  const PlanReader q = second.reader();
  ASSERT_EQ(p.num_items(), q.num_items());
  for (size_t k = 0; k < p.items().size(); ++k) {
    ASSERT_EQ(position(p.items()[k]), position(q.items()[k]));
    ASSERT_EQ(p.order()[k], q.order()[k]);
  }
}

TEST(Plan, AllCachedIsAnEmptyPlan) {
  SparseSymbols a = symbols_not(SparseSymbols(worked_geometry()));
  const PlanMemory memory(a, 0xff);
  const PlanReader plan = memory.reader();
  EXPECT_EQ(plan.num_items(), 0);
  EXPECT_EQ(plan.num_pairs(), 0);
  EXPECT_TRUE(plan.items().empty());
  EXPECT_TRUE(plan.order().empty());
  EXPECT_EQ(plan.item_end(0, 1), 0);
  EXPECT_EQ(plan.active_heads(0, 2)[0], 0u);
}

// A flipped symbol must show: one pair more or less, and the row's item with it.
TEST(Plan, AFlippedSymbolChangesThePlan) {
  SparseSymbols a = worked_example();
  a.set_s(0, 1, 1, 0, true);
  const PlanMemory memory(a, 0xff);
  EXPECT_EQ(memory.reader().num_pairs(), 13);
  EXPECT_EQ(memory.reader().items()[2].blocks, 4);
}

// Symbols that no one repaired must not make the builder write outside its memory.
TEST(Plan, StaysInItsMemoryOnNoise) {
  Rng rng(4);
  for (int trial = 0; trial < 40; ++trial) {
    SparseSymbols a(random_geometry(rng));
    for (uint64_t& word : a.c_words()) word = rng.next();
    for (uint64_t& word : a.s_words()) word = rng.coin(0.3) ? 0 : rng.next();
    const PlanMemory memory(a, 0xff);
    ASSERT_TRUE(memory.guard_intact());
    ASSERT_EQ(memory.reader().num_pairs(), a.counts().active_pairs);
  }
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// What every attention plan must be, whoever built it: each kv block of each active query block in
// exactly one list, pieces of a tile on neighbouring CTAs, and no CTA with much more than its
// share.
#include "cuda/kernels/plan/attention_plan.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <sstream>

#include "tests/cuda_host/skewed_symbols.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/symbols_adaptor.h"

namespace flashomni::testkit {
namespace {

using cuda::AttentionPlanHeader;
using cuda::AttentionPlanLayout;
using cuda::AttentionWork;

struct Plan {
  AttentionPlanHeader header;
  std::vector<std::vector<AttentionWork>> lists;
};

Plan host_plan(const SymbolGeometry& g, const SparseSymbols* symbols, int grid, int head_dim) {
  const AttentionPlanLayout layout(g, grid);
  std::vector<uint8_t> memory(layout.bytes, 0xee);
  cuda::build_attention_plan_on_host(g, symbols ? symbols->c_words().data() : nullptr,
                                     symbols ? symbols->s_words().data() : nullptr, grid, head_dim,
                                     memory.data());
  Plan plan;
  std::memcpy(&plan.header, &memory[layout.header], sizeof(plan.header));
  const auto* offsets = reinterpret_cast<const int32_t*>(&memory[layout.offsets]);
  const auto* work = reinterpret_cast<const AttentionWork*>(&memory[layout.work]);
  for (int cta = 0; cta < grid; ++cta) {
    plan.lists.emplace_back(work + offsets[cta], work + offsets[cta + 1]);
  }
  EXPECT_EQ(offsets[0], 0);
  EXPECT_EQ(offsets[grid], plan.header.num_work);
  EXPECT_LE(layout.work + sizeof(AttentionWork) * static_cast<size_t>(plan.header.num_work),
            layout.flags);
  return plan;
}

// Kv blocks of a row, or of either of two.
int blocks_of(const reference::BlockMask& mask, int nkv, int row0, int row1) {
  int n = 0;
  for (int j = 0; j < nkv; ++j) {
    const auto on = [&](int row) { return row >= 0 && mask.s[size_t(row) * nkv + j]; };
    n += on(row0) || on(row1);
  }
  return n;
}

int64_t cost_of(const SymbolGeometry& g, const AttentionWork& w) {
  return cuda::kCostPerStep * cuda::plan_steps(w.count, cuda::plan_blocks_per_step(g));
}

// Pieces of each tile in the order of the CTAs, and the form of every list.
void expect_valid(const SymbolGeometry& g, const SparseSymbols& symbols, const Plan& plan) {
  const reference::BlockMask mask = to_block_mask(symbols);
  const int nkv = g.num_kv_blocks(), nq = g.num_q_blocks();
  std::vector<int> seen(mask.c.size());
  int64_t total = 0;
  int64_t cost = 0;
  for (size_t cta = 0; cta < plan.lists.size(); ++cta) {
    const auto& list = plan.lists[cta];
    for (size_t n = 0; n < list.size(); ++n) {
      const AttentionWork& w = list[n];
      SCOPED_TRACE("CTA " + std::to_string(cta) + " entry " + std::to_string(n));
      ASSERT_GE(w.count, 1);
      total += w.count;
      cost += cost_of(g, w);
      if (w.merge == AttentionWork::kPartial) {
        EXPECT_EQ(n, 0u) << "a continuation comes first";
        EXPECT_GT(w.skip, 0);
        continue;
      }
      // The first piece of a tile, or all of it.
      ASSERT_EQ(w.skip, 0);
      ++cost;
      ++seen[size_t(w.row0)];
      if (w.row1 >= 0) {
        ++seen[size_t(w.row1)];
        ASSERT_EQ(g.block_q, 64);
        ASSERT_EQ(w.row0 / nq, w.row1 / nq) << "a pair of two heads";
      }
      int done = w.count;
      if (w.merge > 0) {
        EXPECT_EQ(n + 1, list.size()) << "a tile that goes on comes last";
        for (int k = 1; k <= w.merge; ++k) {
          ASSERT_LT(cta + size_t(k), plan.lists.size());
          ASSERT_FALSE(plan.lists[cta + size_t(k)].empty());
          const AttentionWork& piece = plan.lists[cta + size_t(k)].front();
          EXPECT_EQ(piece.merge, AttentionWork::kPartial);
          EXPECT_EQ(piece.row0, w.row0);
          EXPECT_EQ(piece.row1, w.row1);
          EXPECT_EQ(piece.skip, done);
          done += piece.count;
        }
      }
      EXPECT_EQ(done, blocks_of(mask, nkv, w.row0, w.row1));
    }
  }
  int64_t active = 0;
  for (size_t row = 0; row < seen.size(); ++row) {
    EXPECT_EQ(seen[row], mask.c[row]) << "row " << row;
    active += mask.c[row];
  }
  EXPECT_EQ(plan.header.num_rows, active);
  EXPECT_EQ(plan.header.total_blocks, total);

  // Load: the share, its slack, and a block for each cut that had to move.
  const cuda::PlanShare share = cuda::plan_share(cost, static_cast<int>(plan.lists.size()));
  for (size_t cta = 0; cta < plan.lists.size(); ++cta) {
    int64_t load = 0;
    for (const AttentionWork& w : plan.lists[cta]) load += cost_of(g, w) + 1;
    EXPECT_LE(load, share.share + 2 * share.slack + 8) << "CTA " << cta << " of " << cost;
  }
}

TEST(AttentionPlan, EveryBlockOnceAndBalanced) {
  for (uint64_t seed = 710000; seed < 710240; ++seed) {
    Rng rng(seed);
    SymbolGeometry g;
    g.batch = rng.range(1, 2);
    g.heads = pick<int>(rng, {1, 2, 5, 24});
    g.block_q = pick<int>(rng, {64, 128});
    g.block_kv = pick<int>(rng, {64, 128});
    g.q_tokens = pick<int>(rng, {1, 64, 129, 640, 1300, 4608});
    g.kv_tokens = rng.coin(0.7) ? g.q_tokens : pick<int>(rng, {1, 200, 5000});
    const Pattern pattern = kPatterns[rng.below(std::size(kPatterns))];
    const int grid = pick<int>(rng, {1, 3, 7, 64, 132});
    // Plans know of ragged blocks how many there are.
    if (seed % 5 == 0) {
      g.kv_tokens = g.q_tokens;
      g.block_kv = g.block_q;
      g.ragged_blocks = std::min(g.q_tokens, 2 * g.num_q_blocks() + 1);
    }
    std::ostringstream text;
    text << "seed " << seed << " " << pattern_name(pattern) << " b=" << g.batch << " h=" << g.heads
         << " n=" << g.q_tokens << "x" << g.kv_tokens << " " << g.block_q << "x" << g.block_kv
         << " ragged=" << g.ragged_blocks << " grid=" << grid;
    SCOPED_TRACE(text.str());
    const SparseSymbols symbols = seed % 2 ? skewed_symbols(g, rng) : make_symbols(g, pattern, rng);
    const Plan plan = host_plan(g, &symbols, grid, 128);
    EXPECT_EQ(plan.header.grid, grid);
    expect_valid(g, symbols, plan);
  }
}

TEST(AttentionPlan, EveryPieceHasABlockWhereCutsCrowd) {
  const SparseSymbols symbols = crowded_symbols();
  const Plan plan = host_plan(symbols.geometry(), &symbols, 3, 128);
  expect_valid(symbols.geometry(), symbols, plan);
  ASSERT_FALSE(plan.lists[1].empty());
  EXPECT_EQ(plan.lists[1].front().merge, AttentionWork::kPartial);
  EXPECT_EQ(plan.lists[1].front().count, 1);
  EXPECT_EQ(plan.lists[2].front().merge, AttentionWork::kPartial);
}

TEST(AttentionPlan, AllOnesAndNoSymbolsAreTheSame) {
  const SymbolGeometry g{
      .heads = 24, .q_tokens = 4608, .kv_tokens = 4608, .block_q = 128, .block_kv = 128};
  const SparseSymbols ones(g);
  const Plan a = host_plan(g, &ones, 132, 128), b = host_plan(g, nullptr, 132, 128);
  ASSERT_EQ(a.header.num_work, b.header.num_work);
  for (size_t cta = 0; cta < a.lists.size(); ++cta) {
    ASSERT_EQ(a.lists[cta].size(), b.lists[cta].size());
    for (size_t n = 0; n < a.lists[cta].size(); ++n) {
      EXPECT_EQ(std::memcmp(&a.lists[cta][n], &b.lists[cta][n], sizeof(AttentionWork)), 0);
    }
  }
}

// 3168 equal tiles are 24 rounds of 132.
TEST(AttentionPlan, NothingIsCutWhereWholeRoundsFit) {
  const SymbolGeometry g{
      .heads = 24, .q_tokens = 16896, .kv_tokens = 16896, .block_q = 128, .block_kv = 128};
  const Plan plan = host_plan(g, nullptr, 132, 128);
  for (const auto& list : plan.lists) {
    EXPECT_EQ(list.size(), 24u);
    for (const AttentionWork& w : list) EXPECT_EQ(w.merge, AttentionWork::kWhole);
  }
}

TEST(AttentionPlan, NothingActiveIsNoWork) {
  const SymbolGeometry g{.heads = 3, .q_tokens = 1000, .kv_tokens = 1000};
  Rng rng(1);
  const SparseSymbols none = make_symbols(g, Pattern::kAllCached, rng);
  const Plan plan = host_plan(g, &none, 132, 128);
  EXPECT_EQ(plan.header.num_work, 0);
  EXPECT_EQ(plan.header.num_rows, 0);
  EXPECT_EQ(plan.header.total_blocks, 0);
}

TEST(AttentionPlan, RefusesWhatItCannotHold) {
  SymbolGeometry g{.q_tokens = 1000, .kv_tokens = 1000, .block_q = 32};
  EXPECT_NE(cuda::check_attention_plan(g, 132).message().find("32"), std::string::npos);
  g.block_q = 64;
  EXPECT_TRUE(cuda::check_attention_plan(g, 132).ok());
  EXPECT_FALSE(cuda::check_attention_plan(g, 0).ok());
  g.q_tokens = 64 * 70000;
  EXPECT_NE(cuda::check_attention_plan(g, 132).message().find("70000"), std::string::npos);
}

}  // namespace
}  // namespace flashomni::testkit

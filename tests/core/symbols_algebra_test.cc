// SPDX-License-Identifier: Apache-2.0
//
// The algebra of symbols: laws over random geometries, and each operation against its definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "flashomni/symbols.h"
#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

constexpr int kTrials = 40;

// Calls check(b, h, i, j) for every pair; stops at the first fatal failure.
template <class F>
void for_each_pair(const SymbolGeometry& g, F&& check) {
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        for (int j = 0; j < g.num_kv_blocks(); ++j) {
          check(b, h, i, j);
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

// Bits past the ends, which every operation must leave zero.
bool padding_is_zero(const SparseSymbols& a) {
  SparseSymbols padding = symbols_not(symbols_not(a));
  return padding == a;
}

TEST(SymbolsAlgebra, AndOrNotAreBitwise) {
  Rng rng(1);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_bits(rng, g);
    const SparseSymbols b = random_bits(rng, g);
    const SparseSymbols both = symbols_and(a, b).value();
    const SparseSymbols any = symbols_or(a, b).value();
    const SparseSymbols none = symbols_not(a);
    for_each_pair(g, [&](int n, int h, int i, int j) {
      ASSERT_EQ(both.c(n, h, i), a.c(n, h, i) && b.c(n, h, i));
      ASSERT_EQ(any.c(n, h, i), a.c(n, h, i) || b.c(n, h, i));
      ASSERT_EQ(none.c(n, h, i), !a.c(n, h, i));
      ASSERT_EQ(both.s(n, h, i, j), a.s(n, h, i, j) && b.s(n, h, i, j));
      ASSERT_EQ(any.s(n, h, i, j), a.s(n, h, i, j) || b.s(n, h, i, j));
      ASSERT_EQ(none.s(n, h, i, j), !a.s(n, h, i, j));
    });
  }
}

TEST(SymbolsAlgebra, LawsHoldOnWholeWords) {
  Rng rng(2);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_bits(rng, g);
    const SparseSymbols b = random_bits(rng, g);
    // De Morgan, which also shows that padding stays zero.
    EXPECT_EQ(symbols_not(symbols_and(a, b).value()),
              symbols_or(symbols_not(a), symbols_not(b)).value());
    EXPECT_EQ(symbols_not(symbols_or(a, b).value()),
              symbols_and(symbols_not(a), symbols_not(b)).value());
    EXPECT_EQ(symbols_not(symbols_not(a)), a);
    EXPECT_EQ(symbols_or(a, symbols_not(a)).value(), SparseSymbols(g));
    EXPECT_EQ(symbols_and(a, symbols_not(a)).value(), symbols_not(SparseSymbols(g)));
  }
}

TEST(SymbolsAlgebra, RefusesDifferentGeometries) {
  SymbolGeometry g = worked_geometry();
  const SparseSymbols a(g);
  g.kv_tokens = 301;  // as many blocks, but another shape
  const Result<SparseSymbols> result = symbols_and(a, SparseSymbols(g));
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("301"), std::string::npos) << result.status().message();
  EXPECT_FALSE(symbols_or(a, SparseSymbols(g)).ok());
}

TEST(SymbolsAlgebra, ExpandInheritsEveryBit) {
  Rng rng(3);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    for (int block_q = g.block_q; block_q >= 32; block_q /= 2) {
      for (int block_kv = g.block_kv; block_kv >= 32; block_kv /= 2) {
        const SparseSymbols fine = symbols_expand(a, block_q, block_kv).value();
        ASSERT_TRUE(fine.validate().ok()) << fine.validate().to_string();
        const int factor_q = g.block_q / block_q;
        const int factor_kv = g.block_kv / block_kv;
        for_each_pair(fine.geometry(), [&](int b, int h, int i, int j) {
          ASSERT_EQ(fine.c(b, h, i), a.c(b, h, i / factor_q)) << describe(g);
          ASSERT_EQ(fine.s(b, h, i, j), a.s(b, h, i / factor_q, j / factor_kv)) << describe(g);
        });
      }
    }
  }
}

TEST(SymbolsAlgebra, ExpandOfWholeBlocksMultipliesTheCounts) {
  const SymbolGeometry g{2, 3, 70 * 128, 67 * 128, 128, 128};
  Rng rng(4);
  const SparseSymbols a = random_symbols(rng, g);
  const SymbolCounts fine = symbols_expand(a, 64, 32).value().counts();
  EXPECT_EQ(fine.active_rows, 2 * a.counts().active_rows);
  EXPECT_EQ(fine.active_pairs, 8 * a.counts().active_pairs);
}

// 150 tokens are 2 blocks of 128 but 3 of 64 and 5 of 32, not 4 and 8.
TEST(SymbolsAlgebra, ExpandDropsBlocksPastARaggedEnd) {
  const SymbolGeometry g{1, 1, 150, 150, 128, 128};
  const SparseSymbols fine = symbols_expand(SparseSymbols(g), 64, 32).value();
  EXPECT_EQ(fine.geometry().num_q_blocks(), 3);
  EXPECT_EQ(fine.geometry().num_kv_blocks(), 5);
  EXPECT_EQ(fine, SparseSymbols(fine.geometry()));
}

TEST(SymbolsAlgebra, ExpandRefusesCoarserAndUnknownBlocks) {
  const SparseSymbols a(worked_geometry());
  for (const auto& [block_q, block_kv] : {std::pair{128, 64}, {64, 128}, {48, 64}, {64, 0}}) {
    EXPECT_FALSE(symbols_expand(a, block_q, block_kv).ok()) << block_q << " " << block_kv;
  }
}

TEST(SymbolsAlgebra, DilateSetsEveryColumnWithinTheRadius) {
  Rng rng(5);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_bits(rng, g);
    const int radius = rng.range(0, 3);
    const SparseSymbols wide = symbols_dilate(a, radius);
    ASSERT_TRUE(padding_is_zero(wide));
    for_each_pair(g, [&](int b, int h, int i, int j) {
      bool wanted = false;
      for (int k = std::max(0, j - radius); k <= std::min(j + radius, g.num_kv_blocks() - 1); ++k) {
        wanted |= a.s(b, h, i, k);
      }
      ASSERT_EQ(wide.s(b, h, i, j), wanted) << describe(g) << " radius=" << radius;
      ASSERT_EQ(wide.c(b, h, i), a.c(b, h, i));
    });
  }
}

TEST(SymbolsAlgebra, DilateByAHugeRadiusFillsRowsThatHaveABit) {
  const SparseSymbols wide = symbols_dilate(worked_example(), 1 << 30);
  EXPECT_EQ(symbols_ascii(wide, 0, 1), "#####\n#####\n-----\n");
}

std::vector<int> random_order(Rng& rng, int tokens, int block) {
  std::vector<int> order(static_cast<size_t>((tokens + block - 1) / block));
  std::iota(order.begin(), order.end(), 0);
  // A ragged block must stay last.
  const size_t movable = order.size() - (tokens % block != 0 ? 1 : 0);
  for (size_t k = 1; k < movable; ++k) std::swap(order[k], order[rng.below(k + 1)]);
  return order;
}

std::vector<int> inverse(const std::vector<int>& order) {
  std::vector<int> out(order.size());
  for (size_t k = 0; k < order.size(); ++k) out[static_cast<size_t>(order[k])] = int(k);
  return out;
}

TEST(SymbolsAlgebra, PermuteMovesBlocksAndItsInverseBringsThemBack) {
  Rng rng(6);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    const std::vector<int> q = random_order(rng, g.q_tokens, g.block_q);
    const std::vector<int> kv = random_order(rng, g.kv_tokens, g.block_kv);
    const SparseSymbols moved = symbols_permute(a, q, kv).value();
    for_each_pair(g, [&](int b, int h, int i, int j) {
      const int old_i = q[static_cast<size_t>(i)];
      ASSERT_EQ(moved.c(b, h, i), a.c(b, h, old_i));
      ASSERT_EQ(moved.s(b, h, i, j), a.s(b, h, old_i, kv[static_cast<size_t>(j)]));
    });
    ASSERT_TRUE(moved.validate().ok()) << moved.validate().to_string();
    ASSERT_EQ(moved.counts().active_pairs, a.counts().active_pairs);
    ASSERT_EQ(symbols_permute(moved, inverse(q), inverse(kv)).value(), a);
  }
}

TEST(SymbolsAlgebra, PermuteRefusesWhatIsNoPermutation) {
  SymbolGeometry g = worked_geometry();  // ragged both ways
  const std::vector<int> q{0, 1, 2};
  const std::vector<int> kv{0, 1, 2, 3, 4};
  const auto fails = [&](const std::vector<int>& q_order, const std::vector<int>& kv_order,
                         const std::string& reason) {
    const Result<SparseSymbols> result = symbols_permute(SparseSymbols(g), q_order, kv_order);
    ASSERT_FALSE(result.ok()) << reason;
    EXPECT_NE(result.status().message().find(reason), std::string::npos)
        << result.status().message();
  };
  EXPECT_TRUE(symbols_permute(SparseSymbols(g), q, kv).ok());
  fails({0, 1}, kv, "q_order has 2 entries, wanted 3");
  fails({0, 0, 2}, kv, "q_order[1] is 0");
  fails({0, 3, 2}, kv, "q_order[1] is 3");
  fails(q, {-1, 1, 2, 3, 4}, "kv_order[0] is -1");
  fails({2, 1, 0}, kv, "q_order moves the last block");
  fails(q, {4, 1, 2, 3, 0}, "kv_order moves the last block");
  g.q_tokens = 192;  // three whole blocks may move
  EXPECT_TRUE(symbols_permute(SparseSymbols(g), std::vector<int>{2, 1, 0}, kv).ok());
}

}  // namespace
}  // namespace flashomni

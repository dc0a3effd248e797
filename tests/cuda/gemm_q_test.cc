// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q of the CUDA backend against the oracle, over random segments, widths, types and symbols.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/gemm_qkv_case.h"

namespace flashomni::testkit {
namespace {

class CudaGemmQ : public CudaPathTest {};
INSTANTIATE_ON_ALL_PATHS(CudaGemmQ);

GemmQCase random_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  GemmQCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 7);
  g.block_q = g.block_kv = pick<int>(rng, {64, 128});
  g.q_tokens = g.kv_tokens =
      pick<int>(rng, {1, 63, 64, 65, 127, 128, 129, 191, 193, 255, 300, 383});
  c.token_offset = rng.coin(0.4) ? 0 : rng.range(0, g.q_tokens - 1);
  c.rows = rng.coin(0.4) ? g.q_tokens - c.token_offset : rng.range(1, g.q_tokens - c.token_offset);
  c.in_features = pick<int>(rng, {8, 64, 72, 128, 200, 320});
  c.head_dim = pick<int>(rng, {64, 96, 128});
  c.x_dtype = c.weight_dtype = c.out_dtype = pick<DType>(rng, {DType::kBF16, DType::kF16});
  c.bias = rng.coin(0.7);
  c.rms = rng.coin(0.6);
  c.rope = rng.coin(0.6);
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.3);
  c.placement = {.offset = pick<int>(rng, {0, 0, 8}), .pad = pick<int>(rng, {0, 0, 8})};
  return c;
}

TEST_P(CudaGemmQ, MatchesTheOracle) {
  uint64_t seed = 610000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 24; ++i) {
      const GemmQCase c = random_case(++seed, pattern);
      SCOPED_TRACE(c.text());
      const GemmQData data = make_data(c);
      GemmQData poisoned = data;
      if (c.sparse) poison(c, poisoned);
      const GemmQOutcome outcome = run(backend(), c, poisoned);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
      EXPECT_EQ(outcome.damage, "");
      EXPECT_TRUE(compare(outcome.out, make_truth(c, data)));
    }
  }
}

// Enough rows that the schedule goes through several windows of them and a CTA through several
// tiles, or through more windows than a warp has lanes; and segments that begin and end within one.
TEST_P(CudaGemmQ, MatchesTheOracleOverManyWindows) {
  struct Size {
    int batch, heads, tokens, rows;
  };
  uint64_t seed = 614000;
  for (Pattern pattern : {Pattern::kAllOnes, Pattern::kRandomC, Pattern::kOneHead}) {
    for (const int block : {64, 128}) {
      for (const int offset : {0, 900}) {
        for (const Size size : {Size{2, 12, 4200, 3200}, Size{1, 2, 35000, 34000}}) {
          GemmQCase c = random_case(++seed, pattern);
          c.geometry.batch = size.batch;
          c.geometry.heads = size.heads;
          c.geometry.block_q = c.geometry.block_kv = block;
          c.geometry.q_tokens = c.geometry.kv_tokens = size.tokens;
          c.token_offset = offset;
          c.rows = size.rows;
          c.in_features = 8;
          c.sparse = true;
          SCOPED_TRACE(c.text());
          const GemmQData data = make_data(c);
          GemmQData poisoned = data;
          poison(c, poisoned);
          const GemmQOutcome outcome = run(backend(), c, poisoned);
          ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
          EXPECT_EQ(outcome.damage, "");
          EXPECT_TRUE(compare(outcome.out, make_truth(c, data)));
        }
      }
    }
  }
}

TEST_P(CudaGemmQ, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 611000; seed < 611024; ++seed) {
    GemmQCase c = random_case(seed, Pattern::kAllOnes);
    SCOPED_TRACE(c.text());
    const GemmQData data = make_data(c);
    c.sparse = false;
    const GemmQOutcome dense = run(backend(), c, data);
    c.sparse = true;
    const GemmQOutcome sparse = run(backend(), c, data);
    ASSERT_TRUE(dense.status.ok() && sparse.status.ok());
    EXPECT_TRUE(same_bits(sparse.out, dense.out));
  }
}

// A row has the same bits whatever else is computed beside it.
TEST_P(CudaGemmQ, RowsDoNotDependOnTheSymbols) {
  for (uint64_t seed = 612000; seed < 612024; ++seed) {
    GemmQCase c = random_case(seed, Pattern::kRandomC);
    SCOPED_TRACE(c.text());
    const GemmQData data = make_data(c);
    c.sparse = true;
    const GemmQOutcome sparse = run(backend(), c, data);
    c.sparse = false;
    const GemmQOutcome dense = run(backend(), c, data);
    ASSERT_TRUE(dense.status.ok() && sparse.status.ok());
    for (size_t i = 0; i < sparse.out.bits.size(); ++i) {
      if (sparse.out.bits[i] == sparse.out.untouched_bits) continue;
      ASSERT_EQ(sparse.out.bits[i], dense.out.bits[i]) << coordinates(i, sparse.out.shape);
    }
  }
}

TEST_P(CudaGemmQ, GroupedWithKAndVHasTheSameBits) {
  uint64_t seed = 613000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 8; ++i) expect_grouped_as_alone(backend(), random_case(++seed, pattern));
  }
}

TEST_P(CudaGemmQ, GroupedWantsOneSegmentOfOneX) {
  expect_qkv_refusals(backend(), DType::kBF16);
}

}  // namespace
}  // namespace flashomni::testkit

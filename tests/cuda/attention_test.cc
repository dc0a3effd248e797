// SPDX-License-Identifier: Apache-2.0
//
// Attention of the CUDA backend against the oracle, over random shapes, types, blocks and symbols.
// Everything the symbols say is not needed is NaN, so that reading it shows.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/attention_case.h"

namespace flashomni::testkit {
namespace {

class CudaAttention : public CudaPathTest {};
INSTANTIATE_ON_ALL_PATHS(CudaAttention);

AttentionCase random_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  AttentionCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 3);
  g.block_q = pick<int>(rng, {64, 128});
  g.block_kv = pick<int>(rng, {64, 128});
  const std::vector<int> tokens = {1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 300, 383};
  g.q_tokens = pick<int>(rng, tokens);
  g.kv_tokens = rng.coin(0.6) ? g.q_tokens : pick<int>(rng, tokens);
  c.head_dim = pick<int>(rng, {64, 96, 128});
  c.dtype = pick<DType>(rng, {DType::kBF16, DType::kF16});
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.5);
  c.with_lse = rng.coin(0.5);
  c.scale = pick<float>(rng, {0.f, 0.f, 0.5f});
  c.rising = rng.coin(0.2);
  // Rows of the copy engine start at multiples of 16 bytes.
  c.placement = {.offset = pick<int>(rng, {0, 0, 8}), .pad = pick<int>(rng, {0, 0, 8})};
  return c;
}

// The weights of the second product are rounded to the element type, as in any kernel that runs it
// on tensor cores: half a unit of each, of the size of what is summed.
AttentionTruth truth_of(const AttentionCase& c, const AttentionData& data) {
  AttentionTruth truth = make_truth(c, data);
  AttentionData positive = data;
  positive.v = absolute(data.v);
  const reference::BlockMask mask = to_block_mask(data.symbols);
  std::vector<double> size(data.q.size());
  reference::attention<double>(oracle_input<double>(c, positive, c.sparse ? &mask : nullptr), size,
                               nullptr);
  for (size_t i = 0; i < size.size(); ++i) {
    truth.out.allowed[i] += unit_roundoff(c.dtype) * size[i];
  }
  // Tensor cores sum the products of a score with truncation where the naive run rounds.
  for (double& allowed : truth.lse.allowed) allowed *= 2;
  return truth;
}

void expect_right(Backend& backend, const AttentionCase& c) {
  SCOPED_TRACE(c.text());
  const AttentionData data = make_data(c);
  AttentionData poisoned = data;
  if (c.sparse) poison(c, poisoned);
  const AttentionOutcome outcome = run(backend, c, poisoned);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  EXPECT_EQ(outcome.damage, "");
  EXPECT_TRUE(check(outcome, truth_of(c, data)));
}

TEST_P(CudaAttention, MatchesTheOracle) {
  uint64_t seed = 600000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 40; ++i) expect_right(backend(), random_case(++seed, pattern));
  }
}

// Several tiles a CTA, cut tiles and long rows need more work than the oracle can check in full.
TEST_P(CudaAttention, LongRows) {
  uint64_t seed = 601000;
  for (int block_q : {64, 128}) {
    for (int block_kv : {64, 128}) {
      AttentionCase c;
      c.seed = ++seed;
      c.geometry = {.batch = 1,
                    .heads = 2,
                    .q_tokens = 200,
                    .kv_tokens = 9000,
                    .block_q = block_q,
                    .block_kv = block_kv};
      c.dtype = DType::kBF16;
      for (Pattern pattern : {Pattern::kRandomS, Pattern::kOneActive, Pattern::kLastBlock}) {
        c.pattern = pattern;
        expect_right(backend(), c);
      }
    }
  }
}

TEST_P(CudaAttention, ManyHeads) {
  uint64_t seed = 602000;
  for (int block : {64, 128}) {
    for (Pattern pattern : {Pattern::kRandomS, Pattern::kBoth, Pattern::kOneActive}) {
      AttentionCase c;
      c.seed = ++seed;
      c.geometry = {.batch = 2,
                    .heads = 150,
                    .q_tokens = 129,
                    .kv_tokens = 129,
                    .block_q = block,
                    .block_kv = block};
      c.dtype = DType::kF16;
      c.pattern = pattern;
      expect_right(backend(), c);
    }
  }
}

TEST_P(CudaAttention, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 603000; seed < 603024; ++seed) {
    AttentionCase c = random_case(seed, Pattern::kAllOnes);
    c.geometry.block_q = c.geometry.block_kv = 128;  // what a dense call works in
    SCOPED_TRACE(c.text());
    const AttentionData data = make_data(c);
    c.sparse = false;
    const AttentionOutcome dense = run(backend(), c, data);
    c.sparse = true;
    const AttentionOutcome sparse = run(backend(), c, data);
    ASSERT_TRUE(dense.status.ok() && sparse.status.ok());
    EXPECT_TRUE(same_bits(sparse.out, dense.out));
    EXPECT_TRUE(same_bits(sparse.lse, dense.lse));
  }
}

TEST_P(CudaAttention, TwoRunsGiveTheSameBits) {
  for (uint64_t seed = 604000; seed < 604024; ++seed) {
    const AttentionCase c = random_case(seed, Pattern::kBoth);
    SCOPED_TRACE(c.text());
    const AttentionData data = make_data(c);
    const AttentionOutcome one = run(backend(), c, data);
    const AttentionOutcome two = run(backend(), c, data);
    EXPECT_TRUE(same_bits(one.out, two.out));
    EXPECT_TRUE(same_bits(one.lse, two.lse));
  }
}

// Both paths run the portable kernel on them.
TEST_P(CudaAttention, RaggedBlocksMatchTheOracle) {
  uint64_t seed = 606000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 24; ++i) {
      AttentionCase c = random_case(++seed, pattern);
      c.sparse = true;
      make_ragged(c);
      expect_right(backend(), c);
    }
  }
}

// More blocks than one window of a list holds, most of them far shorter than a chunk; and one word
// of symbols after the other.
TEST_P(CudaAttention, ManyShortRaggedBlocks) {
  uint64_t seed = 607000;
  for (int block : {64, 128}) {
    for (int longest : {1, 9, 70}) {
      for (Pattern pattern : {Pattern::kAllOnes, Pattern::kBoth, Pattern::kWindow}) {
        AttentionCase c;
        c.seed = ++seed;
        c.geometry = {.heads = 1, .block_q = block, .block_kv = block};
        c.geometry.q_tokens = c.geometry.kv_tokens = longest == 1 ? 300 : 1100;
        c.dtype = DType::kBF16;
        c.pattern = pattern;
        Rng rng(seed);
        c.starts = {0};
        while (c.starts.back() < c.geometry.q_tokens) {
          const int length = rng.range(1, std::min(longest, block));
          c.starts.push_back(std::min(c.geometry.q_tokens, c.starts.back() + length));
        }
        c.geometry.ragged_blocks = static_cast<int>(c.starts.size()) - 1;
        expect_right(backend(), c);
      }
    }
  }
}

TEST_P(CudaAttention, RaggedBlocksGiveTheSameBitsTwice) {
  for (uint64_t seed = 608000; seed < 608012; ++seed) {
    AttentionCase c = random_case(seed, Pattern::kBoth);
    make_ragged(c);
    SCOPED_TRACE(c.text());
    const AttentionData data = make_data(c);
    const AttentionOutcome one = run(backend(), c, data);
    const AttentionOutcome two = run(backend(), c, data);
    ASSERT_TRUE(one.status.ok()) << one.status.to_string();
    EXPECT_TRUE(same_bits(one.out, two.out));
    EXPECT_TRUE(same_bits(one.lse, two.lse));
  }
}

AttentionCase flip_case(uint64_t seed, int tokens, int block) {
  AttentionCase c;
  c.seed = seed;
  c.geometry = {
      .heads = 2, .q_tokens = tokens, .kv_tokens = tokens, .block_q = block, .block_kv = block};
  c.dtype = DType::kF16;
  c.pattern = Pattern::kRandomS;
  return c;
}

// Whether symbols with any one block flipped fail the comparison, of those kv blocks that count.
template <class Counts>
void expect_flips_caught(Backend& backend, const AttentionCase& c, const Counts& counts) {
  const AttentionData data = make_data(c);
  const AttentionTruth truth = truth_of(c, data);
  EXPECT_TRUE(check(run(backend, c, data), truth));
  for (int i = 0; i < c.geometry.num_q_blocks(); ++i) {
    for (int j = 0; j < c.geometry.num_kv_blocks(); ++j) {
      if (!counts(j)) continue;
      AttentionData wrong = data;
      wrong.symbols.set_s(0, 1, i, j, !wrong.symbols.s(0, 1, i, j));
      wrong.symbols.repair();
      if (wrong.symbols == data.symbols) continue;  // was the row's only block
      EXPECT_FALSE(check(run(backend, c, wrong), truth))
          << "block " << c.geometry.block_q << " S_s[0,1," << i << "," << j << "]";
    }
  }
}

TEST_P(CudaAttention, AnyFlippedRaggedBlockIsCaught) {
  for (int block : {64, 128}) {
    AttentionCase c = flip_case(609000, 3 * block, block);
    make_ragged(c);
    // One key among hundreds may weigh less than rounding.
    expect_flips_caught(backend(), c,
                        [&](int j) { return c.starts[size_t(j) + 1] - c.starts[size_t(j)] >= 8; });
  }
}

// The comparison must catch what it is there to catch.
TEST_P(CudaAttention, AnyFlippedBlockIsCaught) {
  for (int block : {64, 128}) {
    expect_flips_caught(backend(), flip_case(605000, 3 * block - 5, block),
                        [](int) { return true; });
  }
}

TEST_P(CudaAttention, WhatItCannotDoIsRefusedByName) {
  AttentionCase c;
  c.geometry = {.heads = 1, .q_tokens = 64, .kv_tokens = 64, .block_q = 64, .block_kv = 64};
  c.head_dim = 80;
  c.dtype = DType::kBF16;
  c.with_lse = false;
  EXPECT_NE(run(backend(), c, make_data(c)).status.message().find("head_dim is 80"),
            std::string::npos);
  c.head_dim = 64;
  c.dtype = DType::kF32;
  EXPECT_TRUE(names_dtype(run(backend(), c, make_data(c)).status, DType::kF32));
  c.dtype = DType::kF16;
  c.placement.pad = 1;
  EXPECT_NE(run(backend(), c, make_data(c)).status.message().find("16 bytes"), std::string::npos);
}

}  // namespace
}  // namespace flashomni::testkit

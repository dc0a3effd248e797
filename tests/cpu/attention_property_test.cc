// SPDX-License-Identifier: Apache-2.0
//
// Attention of the CPU backend against the oracle, over random shapes, types, layouts and symbols.
// Everything the symbols say is not needed is NaN, so that reading it shows.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/testkit/attention_case.h"
#include "tests/testkit/cpu_backends.h"

namespace flashomni::testkit {
namespace {

void expect_right(const AttentionCase& c) {
  const AttentionData data = make_data(c);
  const AttentionTruth truth = make_truth(c, data);
  AttentionData poisoned = data;
  if (c.sparse) poison(c, poisoned);
  for (const std::string& isa : cpu_isas()) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    const AttentionOutcome outcome = run(cpu_backend(isa), c, poisoned);
    EXPECT_EQ(outcome.damage, "");
    if (!outcome.status.ok()) {
      EXPECT_NE(c.dtype, DType::kF32) << outcome.status.to_string();
      EXPECT_TRUE(names_dtype(outcome.status, c.dtype)) << outcome.status.to_string();
      continue;
    }
    EXPECT_TRUE(check(outcome, truth));
  }
}

class AttentionPatterns : public testing::TestWithParam<Pattern> {};

TEST_P(AttentionPatterns, MatchesTheOracle) {
  const uint64_t base = 1000 * (1 + static_cast<uint64_t>(GetParam()));
  for (uint64_t i = 0; i < 16; ++i) expect_right(random_attention_case(base + i, GetParam()));
}

TEST_P(AttentionPatterns, RaggedBlocksMatchTheOracle) {
  const uint64_t base = 1000 * (1 + static_cast<uint64_t>(GetParam())) + 500;
  for (uint64_t i = 0; i < 16; ++i) {
    AttentionCase c = random_attention_case(base + i, GetParam());
    c.sparse = true;
    make_ragged(c);
    expect_right(c);
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionPatterns, testing::ValuesIn(kPatterns),
                         [](const auto& p) { return pattern_name(p.param); });

// Thresholds on the softmax, at a distance from every decision that no rounding bridges: then the
// same groups of keys must be left out, and counted.
void expect_skips_right(AttentionCase c, int64_t& left_out) {
  const AttentionData data = make_data(c);
  AttentionTruth truth = make_truth(c, data);
  const auto decided = [](const AttentionTruth& t) { return t.left_out.margin > 2e-3; };
  for (int tries = 0; tries < 40 && !decided(truth); ++tries) {
    c.softmax_skip += 0.0173f;
    truth = make_truth(c, data);
  }
  ASSERT_TRUE(decided(truth)) << c.text() << " margin " << truth.left_out.margin;
  for (const std::string& isa : cpu_isas()) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    const AttentionOutcome outcome = run(cpu_backend(isa), c, data);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    EXPECT_EQ(outcome.damage, "");
    EXPECT_TRUE(check(outcome, truth));
    EXPECT_EQ(outcome.skipped.products, truth.left_out.products);
    EXPECT_EQ(outcome.skipped.left_out, truth.left_out.left_out);
  }
  left_out += truth.left_out.left_out;
}

TEST(AttentionProperty, SoftmaxSkipLeavesOutWhatTheOracleDoes) {
  uint64_t seed = 21000;
  int64_t left_out = 0;
  for (const Pattern pattern : {Pattern::kAllOnes, Pattern::kBoth}) {
    for (const int block : {32, 64, 128}) {
      for (const float skip : {1.5f, 4.f}) {
        AttentionCase c;
        c.seed = ++seed;
        c.geometry = {.heads = 2, .q_tokens = 75, .kv_tokens = 165, .block_q = 64};
        c.geometry.block_kv = block;
        c.head_dim = 40;
        c.pattern = pattern;
        c.sparse = pattern == Pattern::kBoth || block != 64;
        c.scale = 1.f;
        c.softmax_skip = skip;
        expect_skips_right(c, left_out);
      }
    }
  }
  EXPECT_GT(left_out, 500) << "the cases test little";
}

TEST(AttentionProperty, ASoftmaxSkipOutOfReachChangesNoBit) {
  AttentionCase c;
  c.seed = 21100;
  c.geometry = {.heads = 3, .q_tokens = 130, .kv_tokens = 200, .block_q = 64, .block_kv = 64};
  c.pattern = Pattern::kBoth;
  c.rising = true;
  const AttentionData data = make_data(c);
  for (const std::string& isa : cpu_isas()) {
    c.softmax_skip = 0;
    const AttentionOutcome off = run(cpu_backend(isa), c, data);
    EXPECT_EQ(off.skipped.products, 0);
    c.softmax_skip = 1e6f;
    const AttentionOutcome on = run(cpu_backend(isa), c, data);
    EXPECT_TRUE(same_bits(on.out, off.out)) << isa;
    EXPECT_TRUE(same_bits(on.lse, off.lse)) << isa;
    EXPECT_GT(on.skipped.products, 0);
    EXPECT_EQ(on.skipped.left_out, 0);
  }
}

TEST(AttentionProperty, ASoftmaxSkipBelowZeroIsRefused) {
  AttentionCase c;
  c.geometry = {.q_tokens = 8, .kv_tokens = 8};
  c.softmax_skip = -1;
  const AttentionOutcome outcome = run(cpu_backend(cpu_isas().front()), c, make_data(c));
  EXPECT_FALSE(outcome.status.ok());
  EXPECT_NE(outcome.status.message().find("softmax_skip"), std::string::npos)
      << outcome.status.to_string();
}

// Sizes that random choice may miss, one by one.
TEST(AttentionProperty, EveryHeadDimAndRaggedEnd) {
  uint64_t seed = 20000;
  for (int d : {2, 4, 6, 8, 10, 12, 16, 40, 64, 72, 80, 96, 128, 130}) {
    for (int tokens : {1, 31, 33, 67}) {
      AttentionCase c;
      c.seed = ++seed;
      c.geometry = {
          .heads = 2, .q_tokens = tokens, .kv_tokens = tokens, .block_q = 32, .block_kv = 32};
      c.head_dim = d;
      c.pattern = Pattern::kBoth;
      expect_right(c);
    }
  }
}

// Row strides that are a large power of two, which kernels may copy out of the way of the caches.
TEST(AttentionProperty, PowerOfTwoRows) {
  uint64_t seed = 20100;
  for (auto [heads, d] : {std::pair(4, 64), std::pair(2, 128), std::pair(8, 32)}) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      AttentionCase c;
      c.seed = ++seed;
      c.geometry = {.batch = 2,
                    .heads = heads,
                    .q_tokens = 70,
                    .kv_tokens = 70,
                    .block_q = 32,
                    .block_kv = 32};
      c.head_dim = d;
      c.dtype = dtype;
      c.pattern = Pattern::kDeadColumns;
      expect_right(c);
    }
  }
}

// More blocks than bits in a word of symbols, one way and the other, and more heads.
TEST(AttentionProperty, ManyBlocksAndHeads) {
  AttentionCase c;
  c.head_dim = 8;
  for (Pattern pattern : {Pattern::kBoth, Pattern::kOneActive, Pattern::kLastBlock}) {
    c.pattern = pattern;
    c.seed = 20200 + static_cast<uint64_t>(pattern);
    c.dtype = pattern == Pattern::kBoth ? DType::kF32 : DType::kBF16;
    c.geometry = {.heads = 2, .q_tokens = 40, .kv_tokens = 2235, .block_q = 32, .block_kv = 32};
    expect_right(c);
    c.geometry = {.heads = 2, .q_tokens = 2235, .kv_tokens = 40, .block_q = 32, .block_kv = 32};
    expect_right(c);
    c.geometry = {.heads = 70, .q_tokens = 40, .kv_tokens = 40, .block_q = 32, .block_kv = 32};
    expect_right(c);
  }
}

// The running maximum of an online softmax must be raised again and again.
TEST(AttentionProperty, RisingScores) {
  for (uint64_t seed = 20300; seed < 20312; ++seed) {
    AttentionCase c = random_attention_case(seed, Pattern::kRandomS);
    c.rising = true;
    c.dtype = DType::kF32;
    c.geometry.kv_tokens = 300;
    expect_right(c);
  }
}

// One row block: every skipped kv block is needed by nobody, so all of them are NaN.
TEST(AttentionProperty, SkippedBlocksAreNeverRead) {
  for (uint64_t seed = 21000; seed < 21012; ++seed) {
    AttentionCase c = random_attention_case(seed, Pattern::kBoth);
    c.pattern = Pattern::kRandomS;
    c.sparse = true;
    c.geometry.q_tokens = std::min(c.geometry.q_tokens, c.geometry.block_q);
    c.geometry.kv_tokens = 5 * c.geometry.block_kv - 3;
    expect_right(c);
  }
}

// With symbols that leave nothing out, and without symbols: the same bits.
void expect_all_ones_is_dense(AttentionCase c) {
  const AttentionData data = make_data(c);
  ASSERT_EQ(data.symbols.counts().active_pairs, data.symbols.counts().pairs);
  for (const std::string& isa : cpu_isas()) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    c.sparse = false;
    const AttentionOutcome dense = run(cpu_backend(isa), c, data);
    c.sparse = true;
    const AttentionOutcome sparse = run(cpu_backend(isa), c, data);
    EXPECT_EQ(dense.status.ok(), sparse.status.ok());
    EXPECT_TRUE(same_bits(sparse.out, dense.out));
    EXPECT_TRUE(same_bits(sparse.lse, dense.lse));
  }
}

TEST(AttentionExactness, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 22000; seed < 22016; ++seed) {
    AttentionCase c = random_attention_case(seed, Pattern::kAllOnes);
    expect_all_ones_is_dense(c);
  }
}

// Wherever blocks end, keys go through the softmax in the aligned groups of a dense call.
TEST(AttentionExactness, AllOnesOfRaggedBlocksIsDenseBitForBit) {
  for (uint64_t seed = 22500; seed < 22524; ++seed) {
    AttentionCase c = random_attention_case(seed, Pattern::kAllOnes);
    if (seed % 3 == 0) c.geometry.q_tokens = 300 + static_cast<int>(seed % 100);
    make_ragged(c);
    expect_all_ones_is_dense(c);
  }
}

// The same mask in whole blocks, once said so and once as ragged blocks that happen to be whole.
TEST(AttentionExactness, RaggedBlocksOfOneSizeAreBlocksOfOneSize) {
  for (const int block : {32, 64, 128}) {
    AttentionCase c;
    c.seed = 22600 + static_cast<uint64_t>(block);
    c.geometry = {.heads = 2,
                  .q_tokens = 5 * block - 3,
                  .kv_tokens = 5 * block - 3,
                  .block_q = block,
                  .block_kv = block};
    c.head_dim = 40;
    c.pattern = Pattern::kBoth;
    const AttentionData data = make_data(c);
    AttentionData ragged = data;
    for (int i = 0; i < 5; ++i) c.starts.push_back(i * block);
    c.starts.push_back(5 * block - 3);
    SymbolGeometry g = c.geometry;
    g.ragged_blocks = 5;
    ragged.symbols = SparseSymbols(g, c.starts);
    std::ranges::copy(data.symbols.c_words(), ragged.symbols.c_words().begin());
    std::ranges::copy(data.symbols.s_words(), ragged.symbols.s_words().begin());
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const AttentionOutcome whole = run(cpu_backend(isa), c, data);
      const AttentionOutcome other = run(cpu_backend(isa), c, ragged);
      ASSERT_TRUE(other.status.ok()) << other.status.to_string();
      EXPECT_TRUE(same_bits(other.out, whole.out));
      EXPECT_TRUE(same_bits(other.lse, whole.lse));
    }
  }
}

TEST(AttentionExactness, ThreadCountDoesNotChangeABit) {
  for (uint64_t seed = 23000; seed < 23008; ++seed) {
    AttentionCase c = random_attention_case(seed, Pattern::kBoth);
    if (seed % 2 == 1) make_ragged(c);
    const AttentionData data = make_data(c);
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const AttentionOutcome one = run(cpu_backend(isa, 1), c, data);
      for (int threads : {2, 4}) {
        const AttentionOutcome more = run(cpu_backend(isa, threads), c, data);
        EXPECT_TRUE(same_bits(more.out, one.out)) << threads << " threads";
        EXPECT_TRUE(same_bits(more.lse, one.lse)) << threads << " threads";
      }
    }
  }
}

// What the comparison must not let pass.
class AttentionControl : public testing::Test {
 protected:
  AttentionControl() {
    case_.seed = 24000;
    case_.geometry = {
        .batch = 2, .heads = 2, .q_tokens = 150, .kv_tokens = 150, .block_q = 32, .block_kv = 32};
    case_.head_dim = 16;
    case_.pattern = Pattern::kRandomS;
    data_ = make_data(case_);
    truth_ = make_truth(case_, data_);
  }
  testing::AssertionResult check_with(const AttentionData& data) {
    return check(run(cpu_backend(), case_, data), truth_);
  }

  AttentionCase case_;
  AttentionData data_;
  AttentionTruth truth_;
};

TEST_F(AttentionControl, TheRightAnswerPasses) {
  EXPECT_TRUE(check_with(data_));
}

TEST_F(AttentionControl, AnyFlippedBlockIsCaught) {
  for (int i = 0; i < case_.geometry.num_q_blocks(); ++i) {
    for (int j = 0; j < case_.geometry.num_kv_blocks(); ++j) {
      AttentionData wrong = data_;
      wrong.symbols.set_s(1, 1, i, j, !wrong.symbols.s(1, 1, i, j));
      wrong.symbols.repair();
      if (wrong.symbols == data_.symbols) continue;  // was the row's only block
      EXPECT_FALSE(check_with(wrong)) << "S_s[1,1," << i << "," << j << "]";
    }
  }
}

// Of ragged blocks: every start moved by a token, and every flipped block.
TEST(AttentionProperty, WrongRaggedBlocksAreCaught) {
  AttentionCase c;
  c.seed = 24100;
  c.geometry = {.heads = 2, .q_tokens = 150, .kv_tokens = 150, .block_q = 32, .block_kv = 32};
  c.head_dim = 16;
  c.pattern = Pattern::kWindow;
  make_ragged(c);
  const AttentionData data = make_data(c);
  const AttentionTruth truth = make_truth(c, data);
  EXPECT_TRUE(check(run(cpu_backend(), c, data), truth));
  const int blocks = c.geometry.ragged_blocks;
  ASSERT_GT(blocks, 5);
  int moved = 0;
  for (int i = 1; i < blocks; ++i) {
    std::vector<int32_t> starts = c.starts;
    ++starts[size_t(i)];
    AttentionData wrong = data;
    wrong.symbols = SparseSymbols(data.symbols.geometry(), starts);
    std::ranges::copy(data.symbols.c_words(), wrong.symbols.c_words().begin());
    std::ranges::copy(data.symbols.s_words(), wrong.symbols.s_words().begin());
    if (!wrong.symbols.validate().ok()) continue;  // a block became too long, or empty
    ++moved;
    EXPECT_FALSE(check(run(cpu_backend(), c, wrong), truth)) << "start of block " << i;
  }
  EXPECT_GT(moved, 2);
  for (int i = 0; i < blocks; ++i) {
    for (int j = 0; j < blocks; ++j) {
      AttentionData wrong = data;
      wrong.symbols.set_s(0, 1, i, j, !wrong.symbols.s(0, 1, i, j));
      wrong.symbols.repair();
      if (wrong.symbols == data.symbols) continue;  // was the row's only block
      EXPECT_FALSE(check(run(cpu_backend(), c, wrong), truth)) << "S_s[0,1," << i << "," << j;
    }
  }
}

TEST_F(AttentionControl, AFlippedRowIsCaught) {
  AttentionData wrong = data_;
  wrong.symbols.set_c(0, 1, 2, false);
  EXPECT_FALSE(check_with(wrong));
}

TEST_F(AttentionControl, SwappedBlocksAreCaught) {
  AttentionData wrong = data_;
  const std::ptrdiff_t block = 32 * case_.geometry.heads * case_.head_dim;
  std::swap_ranges(wrong.v.begin(), wrong.v.begin() + block, wrong.v.begin() + block);
  EXPECT_FALSE(check_with(wrong));
}

TEST_F(AttentionControl, AWrongScaleIsCaught) {
  case_.scale = 0.251f;  // 1/sqrt(16) is 0.25
  EXPECT_FALSE(check_with(data_));
}

}  // namespace
}  // namespace flashomni::testkit

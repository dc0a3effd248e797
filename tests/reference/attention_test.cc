// SPDX-License-Identifier: Apache-2.0
#include "reference/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

AttentionInput<double> one_head(int q_tokens, int kv_tokens, int head_dim) {
  AttentionInput<double> in;
  in.q_tokens = q_tokens;
  in.kv_tokens = kv_tokens;
  in.head_dim = head_dim;
  return in;
}

TEST(ReferenceAttention, TwoKeysByHand) {
  AttentionInput<double> in = one_head(1, 2, 2);
  in.q = {1, 0};
  in.k = {std::log(3.0), 7, 0, -5};  // scores log 3 and 0: weights 3/4 and 1/4
  in.v = {4, 8, 0, 40};
  in.scale = 1;
  std::vector<double> out(2), lse(1);
  attention(in, out, &lse);
  EXPECT_NEAR(out[0], 3, 1e-14);
  EXPECT_NEAR(out[1], 16, 1e-14);
  EXPECT_NEAR(lse[0], std::log(4.0), 1e-14);
}

TEST(ReferenceAttention, DefaultScaleIsOneOverRootHeadDim) {
  AttentionInput<double> in = one_head(1, 2, 4);
  in.q = {2, 0, 0, 0};
  in.k = {std::log(3.0), 0, 0, 0, 0, 0, 0, 0};  // 2 log 3 / sqrt(4)
  in.v = {4, 0, 0, 0, 0, 0, 0, 0};
  std::vector<double> out(4);
  attention<double>(in, out, nullptr);
  EXPECT_NEAR(out[0], 3, 1e-14);
}

TEST(ReferenceAttention, HugeScoresDoNotOverflow) {
  AttentionInput<double> in = one_head(1, 2, 2);
  in.q = {1e4, 0};
  in.k = {1e4, 0, 1e4, 0};
  in.v = {1, 2, 3, 4};
  in.scale = 1;
  std::vector<double> out(2), lse(1);
  attention(in, out, &lse);
  EXPECT_NEAR(out[0], 2, 1e-12);
  EXPECT_NEAR(lse[0], 1e8 + std::log(2.0), 1e-6);
}

// Blocks of 1, 3 and 1 keys: the middle one skipped leaves the outer two, by hand.
TEST(ReferenceAttention, RaggedBlocksByHand) {
  AttentionInput<double> in = one_head(5, 5, 2);
  in.q = {1, 0, 1, 0, 1, 0, 1, 0, 1, 0};
  in.k = {std::log(3.0), 0, 5, 0, 6, 0, 7, 0, 0, 0};
  in.v = {4, 8, 99, 99, 99, 99, 99, 99, 0, 40};
  in.scale = 1;
  BlockMask mask;
  mask.q_tokens = mask.kv_tokens = 5;
  mask.starts = {0, 1, 4, 5};
  mask.c = {1, 0, 1};
  mask.s = {1, 0, 1, 0, 0, 0, 0, 0, 1};
  in.mask = &mask;
  EXPECT_EQ(mask.num_q_blocks(), 3);
  EXPECT_EQ(mask.num_kv_blocks(), 3);
  std::vector<double> out(10, -1);
  attention<double>(in, out, nullptr);
  EXPECT_NEAR(out[0], 3, 1e-14);
  EXPECT_NEAR(out[1], 16, 1e-14);
  for (int i = 2; i < 8; ++i) EXPECT_EQ(out[size_t(i)], -1) << "cached rows are not touched";
  EXPECT_EQ(out[8], 0);
  EXPECT_EQ(out[9], 40);
}

TEST(ReferenceAttention, SkippedBlockIsAsIfItsKeysWereNotThere) {
  AttentionInput<double> in = one_head(3, 5, 2);
  in.q = random_values(1, 6);
  in.k = random_values(2, 10);
  in.v = random_values(3, 10);
  BlockMask mask{.q_tokens = 3, .kv_tokens = 5, .block_q = 4, .block_kv = 2};
  mask.c = {1};
  mask.s = {1, 0, 1};
  in.mask = &mask;
  std::vector<double> masked(6), lse(3);
  attention(in, masked, &lse);

  AttentionInput<double> shorter = one_head(3, 3, 2);
  shorter.q = in.q;
  for (int m : {0, 1, 4}) {
    for (int e = 0; e < 2; ++e) {
      shorter.k.push_back(in.k[m * 2 + e]);
      shorter.v.push_back(in.v[m * 2 + e]);
    }
  }
  std::vector<double> expected(6), expected_lse(3);
  attention(shorter, expected, &expected_lse);
  EXPECT_EQ(masked, expected);
  EXPECT_EQ(lse, expected_lse);
}

// Three groups of 32 keys that score 10, 4 and 9 powers of two; values 1, 2 and 4.
TEST(ReferenceAttention, SoftmaxSkipByHand) {
  AttentionInput<double> in = one_head(1, 96, 2);
  in.q = {1, 0};
  in.scale = std::log(2.0);
  for (const double score : {10.0, 4.0, 9.0}) {
    for (int m = 0; m < 32; ++m) in.k.insert(in.k.end(), {score, 0.5});
  }
  for (const double value : {1.0, 2.0, 4.0}) {
    for (int m = 0; m < 32; ++m) in.v.insert(in.v.end(), {value, 0});
  }
  std::vector<double> out(2), lse(1);
  LeftOut left_out;
  in.softmax_skip = 6.5;  // 4 is 6 below 10: stays
  attention(in, out, &lse, &left_out);
  EXPECT_NEAR(out[0], (1 * 1024 + 2 * 16 + 4 * 512) / (1024.0 + 16 + 512), 1e-12);
  EXPECT_EQ(left_out.products, 3);
  EXPECT_EQ(left_out.left_out, 0);
  EXPECT_NEAR(left_out.margin, 0.5, 1e-12);

  in.softmax_skip = 5.5;
  left_out = {};
  attention(in, out, &lse, &left_out);
  EXPECT_NEAR(out[0], (1 * 1024 + 4 * 512) / (1024.0 + 512), 1e-12);
  EXPECT_NEAR(lse[0], std::log(32 * (1024.0 + 512)), 1e-12);
  EXPECT_EQ(left_out.left_out, 1);
  in.softmax_skip = 0.5;
  attention(in, out, &lse);
  EXPECT_NEAR(out[0], 1, 1e-12);

  // What came before a higher group stays: only the running maximum is known.
  std::swap_ranges(in.k.begin(), in.k.begin() + 64, in.k.begin() + 64);
  attention(in, out, &lse);
  EXPECT_NEAR(out[0], (16 * 1 + 1024 * 2) / (16.0 + 1024), 1e-12);
}

TEST(ReferenceAttention, CachedTileKeepsItsValues) {
  AttentionInput<double> in = one_head(4, 4, 2);
  in.heads = 2;
  in.q = random_values(1, 16);
  in.k = random_values(2, 16);
  in.v = random_values(3, 16);
  std::vector<double> dense(16), dense_lse(8);
  attention(in, dense, &dense_lse);

  BlockMask mask{.heads = 2, .q_tokens = 4, .kv_tokens = 4, .block_q = 2, .block_kv = 2};
  mask.c = {1, 0, 0, 1};  // head 0: block 0 computed; head 1: block 1 computed
  mask.s.assign(8, 1);
  in.mask = &mask;
  std::vector<double> out(16, -7), lse(8, -9);
  attention(in, out, &lse);
  for (int n = 0; n < 4; ++n) {
    for (int h = 0; h < 2; ++h) {
      const bool computed = (h == 0) == (n < 2);
      for (int e = 0; e < 2; ++e) {
        const int at = (n * 2 + h) * 2 + e;
        EXPECT_EQ(out[at], computed ? dense[at] : -7);
      }
      EXPECT_EQ(lse[h * 4 + n], computed ? dense_lse[h * 4 + n] : -9);
    }
  }
}

TEST(ReferenceAttention, BatchItemsAreIndependent) {
  AttentionInput<double> two = one_head(3, 4, 2);
  two.batch = 2;
  two.q = random_values(1, 12);
  two.k = random_values(2, 16);
  two.v = random_values(3, 16);
  std::vector<double> out(12);
  attention<double>(two, out, nullptr);

  AttentionInput<double> second = one_head(3, 4, 2);
  second.q.assign(two.q.begin() + 6, two.q.end());
  second.k.assign(two.k.begin() + 8, two.k.end());
  second.v.assign(two.v.begin() + 8, two.v.end());
  std::vector<double> expected(6);
  attention<double>(second, expected, nullptr);
  EXPECT_EQ(std::vector<double>(out.begin() + 6, out.end()), expected);
}

TEST(ReferenceAttention, ConstantKeyShiftLeavesOutputUnchanged) {
  AttentionInput<double> in = one_head(5, 6, 4);
  in.q = random_values(1, 20);
  in.k = random_values(2, 24);
  in.v = random_values(3, 24);
  std::vector<double> out(20), shifted(20);
  attention<double>(in, out, nullptr);
  const std::vector<double> shift = random_values(4, 4);
  for (size_t i = 0; i < in.k.size(); ++i) in.k[i] -= shift[i % 4];
  attention<double>(in, shifted, nullptr);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], shifted[i], 1e-12);
}

}  // namespace
}  // namespace flashomni::reference

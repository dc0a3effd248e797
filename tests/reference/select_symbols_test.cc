// SPDX-License-Identifier: Apache-2.0
#include "reference/select_symbols.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/select_rules.h"
#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

using Bits = std::vector<uint8_t>;

// Three blocks, text first. Zero everywhere but where a test writes.
CachedRowsInput<double> text_first() {
  CachedRowsInput<double> in;
  in.shape = {.num_q = 4, .num_kv = 4};
  in.scores.assign(16, 0);
  in.text_q = {0, 1};
  in.text_kv = {0, 1};
  return in;
}

TEST(SelectCachedRows, CachesWhatTextDoesNotRead) {
  CachedRowsInput<double> in = text_first();
  in.scores[0 * 4 + 1] = 4;  // text row 0 reads vision block 1,
  in.scores[0 * 4 + 3] = 6;  // and block 3 more, but not block 2
  in.theta =
      0.4;  // (softmax(4,0,6) + 1/3 each) / 2 = (.227, .168, .606): blocks 2 and 1 sum to .394
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 0, 0, 1}));
  in.theta = 0.3;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 0, 1}));
  in.theta = 0.1;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 1}));
}

TEST(SelectCachedRows, CachesWhatDoesNotReadText) {
  CachedRowsInput<double> in = text_first();
  in.scores[1 * 4 + 0] = 4;  // vision rows read text column 0
  in.scores[3 * 4 + 0] = 6;
  in.scores[2 * 4 + 3] = 50;  // a vision to vision score does not count
  in.theta = 0.3;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 0, 1}));
}

TEST(SelectCachedRows, ModesDiffer) {
  CachedRowsInput<double> in = text_first();
  in.scores[0 * 4 + 1] = 3;
  in.scores[2 * 4 + 0] = 3;
  in.theta = 0.3;
  // Mean of softmaxes: (.476, .476, .047). Softmax of the sum: the same order but other shares.
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 0}));
  in.theta = 0.03;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 1}));
  in.mode = TextScore::kSoftmaxOfSum;  // (.488, .488, .0243)
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 0}));
}

TEST(SelectCachedRows, OneVisionRowIsNeverLeftWithoutAnyComputed) {
  CachedRowsInput<double> in = text_first();
  in.theta = 100;
  const Bits c = select_cached_rows(in);
  EXPECT_EQ(c, (Bits{1, 0, 0, 1}));  // all equal: the smaller indices go first
}

TEST(SelectCachedRows, GateKeepsARowWithoutChangingTheOthers) {
  CachedRowsInput<double> in = text_first();
  in.theta = 0.7;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 0, 0, 1}));
  in.gate_q = {1, 0, 1, 1};
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 0, 1}));
}

TEST(SelectCachedRows, NothingIsCachedWithoutTextOrWithANegativeThreshold) {
  CachedRowsInput<double> in = text_first();
  in.theta = -1;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 1}));
  in.theta = 0.9;
  in.text_kv = {};
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 1, 1}));
}

TEST(SelectCachedRows, TextLast) {
  CachedRowsInput<double> in = text_first();
  in.text_q = in.text_kv = {3, 4};
  in.scores[3 * 4 + 1] = 5;
  in.theta = 0.4;
  EXPECT_EQ(select_cached_rows(in), (Bits{0, 1, 0, 1}));
}

TEST(SelectCachedRows, HeadsHaveTheirOwnOrder) {
  CachedRowsInput<double> in = text_first();
  in.shape.heads = 2;
  in.scores.assign(32, 0);
  in.scores[0 * 4 + 2] = 5;
  in.scores[0 * 4 + 3] = 5;
  in.scores[16 + 0 * 4 + 1] = 5;
  in.scores[16 + 0 * 4 + 2] = 5;
  in.theta = 0.2;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 0, 1, 1, 1, 1, 1, 0}));
}

TEST(SelectCachedRows, UnequalBlocksSumTheirSubBlocks) {
  // Row blocks of 128, kv blocks of 64: row block i covers kv blocks 2i and 2i+1.
  CachedRowsInput<double> in;
  in.shape = {.num_q = 3, .num_kv = 5, .block_q = 128, .block_kv = 64};
  in.scores.assign(15, 0);
  in.text_q = {0, 1};
  in.text_kv = {0, 2};
  in.scores[0 * 5 + 2] = 1;
  in.scores[0 * 5 + 3] = 2;  // u_1 = 3
  in.scores[0 * 5 + 4] = 2;  // u_2 = 2
  in.theta = 0.45;
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 1, 0}));
  // Row blocks of 64, kv blocks of 128: row block i lies in kv block i / 2.
  in.shape = {.num_q = 4, .num_kv = 2, .block_q = 64, .block_kv = 128};
  in.text_q = {0, 1};
  in.text_kv = {0, 1};
  in.scores = {1, 9, 0, 0, 0, 0, 0, 0};  // u_1 = 1, u_2 = u_3 = 9
  EXPECT_EQ(select_cached_rows(in), (Bits{1, 0, 1, 1}));
}

// Per head 3 x 3 blocks with row softmaxes (.5, .25, .25), rolled by the row number.
KvBlocksInput<double> three_rows() {
  KvBlocksInput<double> in;
  in.shape = {.num_q = 3, .num_kv = 3};
  in.scores.assign(9, 0);
  for (int i = 0; i < 3; ++i) in.scores[i * 3 + i] = std::log(2.0);
  in.c = {1, 1, 1};
  in.parameter = 0.3;
  return in;
}

TEST(SelectKvBlocks, RowByRow) {
  EXPECT_EQ(select_kv_blocks(three_rows()), (Bits{1, 0, 1, 0, 1, 1, 0, 1, 1}));
}

TEST(SelectKvBlocks, EveryRule) {
  KvBlocksInput<double> in = three_rows();
  in.rule = Rule::kTopK;
  in.parameter = 1;
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 0, 0, 1, 0, 0, 0, 1}));
  in.rule = Rule::kKeepCdfLt;
  in.parameter = 0.6;
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 0, 0, 1, 0, 0, 0, 1}));
  in.rule = Rule::kKeepCdfGe;
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 1, 0, 1, 1, 0, 1, 0, 1}));
}

TEST(SelectKvBlocks, ProtectedRowsAndColumns) {
  KvBlocksInput<double> in = three_rows();
  in.keep_q = {1, 2};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 1, 1, 1, 1, 0, 1, 1}));
  in.keep_q = {};
  in.keep_kv = {0, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(SelectKvBlocks, GatedColumnLeavesTheSoftmaxAndIsKept) {
  KvBlocksInput<double> in = three_rows();
  in.gate_kv = {1, 1, 0};
  in.parameter = 0.4;  // rows 0, 1: (2/3, 1/3) with one dropped; row 2: (1/2, 1/2) with none
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 1, 0, 1, 1, 1, 1, 1}));
  in.gate_kv = {0, 0, 0};
  EXPECT_EQ(select_kv_blocks(in), Bits(9, 1));
}

TEST(SelectKvBlocks, GatedRowIsKeptWhole) {
  KvBlocksInput<double> in = three_rows();
  in.gate_q = {1, 0, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 1, 1, 1, 1, 0, 1, 1}));
}

TEST(SelectKvBlocks, CachedRowsAreClearedEvenIfProtected) {
  KvBlocksInput<double> in = three_rows();
  in.keep_q = {0, 3};
  in.c = {1, 0, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 1, 1, 0, 0, 0, 1, 1, 1}));
}

TEST(SelectKvBlocks, EmptyRowGetsItsDiagonalBlock) {
  KvBlocksInput<double> in = three_rows();
  in.rule = Rule::kTopK;
  in.parameter = 0;
  in.c = {1, 0, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 0, 0, 0, 0, 0, 0, 1}));
  // More query than kv blocks: rows past the end get the last column.
  in.shape = {.num_q = 3, .num_kv = 1, .block_q = 64, .block_kv = 64};
  in.scores = {0, 0, 0};
  in.c = {1, 1, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 1, 1}));
  // Row blocks of 128 over kv blocks of 64: the block of the first token.
  in.shape = {.num_q = 2, .num_kv = 4, .block_q = 128, .block_kv = 64};
  in.scores.assign(8, 0);
  in.c = {1, 1};
  EXPECT_EQ(select_kv_blocks(in), (Bits{1, 0, 0, 0, 0, 0, 1, 0}));
}

}  // namespace
}  // namespace flashomni::reference

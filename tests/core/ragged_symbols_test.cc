// SPDX-License-Identifier: Apache-2.0
//
// Symbols of ragged blocks: their limits, their starts, what the algebra and the codecs make of
// them, and version 2 of the file.
#include <gtest/gtest.h>

#include <climits>

#include "core/block_range.h"
#include "core/plan.h"
#include "core/symbols_view.h"
#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

// Four blocks of 3, 32, 1 and 4 tokens.
SymbolGeometry four_blocks() {
  return {.heads = 1,
          .q_tokens = 40,
          .kv_tokens = 40,
          .block_q = 32,
          .block_kv = 32,
          .ragged_blocks = 4};
}
const std::vector<int32_t> kStarts = {0, 3, 35, 36, 40};

void expect_says(const Status& status, const std::string& words) {
  EXPECT_FALSE(status.ok()) << "wanted: " << words;
  EXPECT_NE(status.message().find(words), std::string::npos) << status.message();
}

TEST(RaggedSymbols, CountBlocksAndNotTokens) {
  const SparseSymbols a(four_blocks(), kStarts);
  ASSERT_TRUE(a.validate().ok()) << a.validate().message();
  EXPECT_EQ(a.geometry().num_q_blocks(), 4);
  EXPECT_EQ(a.geometry().num_kv_blocks(), 4);
  EXPECT_EQ(a.counts().rows, 4);
  EXPECT_EQ(a.counts().pairs, 16);
  EXPECT_EQ(a.c_words()[0], 0xfu);
}

TEST(RaggedSymbols, RepairGivesAnEmptyRowItsOwnBlock) {
  SparseSymbols a(four_blocks(), kStarts);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) a.set_s(0, 0, i, j, false);
  }
  expect_says(a.validate(), "is computed but has no kv block");
  a.repair();
  EXPECT_EQ(symbols_ascii(a, 0, 0), "#...\n.#..\n..#.\n...#\n");
}

TEST(RaggedSymbols, GeometriesThatMeanNothingAreRefusedByName) {
  const auto with = [](auto change) {
    SymbolGeometry g = four_blocks();
    change(g);
    return g.validate();
  };
  EXPECT_TRUE(with([](auto&) {}).ok());
  EXPECT_TRUE(with([](auto& g) { g.ragged_blocks = 2; }).ok());
  EXPECT_TRUE(with([](auto& g) { g.ragged_blocks = 40; }).ok());
  expect_says(with([](auto& g) { g.ragged_blocks = 1; }), "ragged_blocks is 1, wanted 2..40");
  expect_says(with([](auto& g) { g.ragged_blocks = 41; }), "ragged_blocks is 41, wanted 2..40");
  expect_says(with([](auto& g) { g.ragged_blocks = -1; }), "ragged_blocks is -1");
  expect_says(with([](auto& g) { g.block_kv = 64; }), "32x64 over 40x40");
  expect_says(with([](auto& g) { g.kv_tokens = 41; }), "32x32 over 40x41");
  // The widest fields together do not overflow on the way.
  const SymbolGeometry huge{
      kMaxSymbolBatch, kMaxSymbolHeads, kMaxSymbolTokens, kMaxSymbolTokens, 32, 32,
      kMaxRaggedBlocks};
  expect_says(huge.validate(), "S_s has");
  SymbolGeometry more = huge;
  more.ragged_blocks = INT_MAX;
  expect_says(more.validate(), "ragged_blocks is 2147483647");
}

TEST(RaggedSymbols, StartsThatDoNotFitAreRefusedByName) {
  const auto with = [](const std::vector<int32_t>& starts) {
    return SparseSymbols(four_blocks(), starts).validate();
  };
  expect_says(with({}), "symbols have 0 starts of ragged blocks, wanted 5");
  expect_says(with({0, 3, 35, 40}), "4 starts");
  expect_says(with({1, 3, 35, 36, 40}), "starts[0] of ragged blocks is 1, wanted 0");
  expect_says(with({0, 3, 3, 36, 40}), "starts[2] of ragged blocks is 3, wanted 1 to 32 more");
  expect_says(with({0, 3, 36, 37, 40}), "starts[2] of ragged blocks is 36, wanted 1 to 32 more");
  expect_says(with({0, 3, 35, 34, 40}), "starts[3]");
  expect_says(with({0, 3, 35, INT_MIN, 40}), "starts[3]");
  expect_says(with({0, 3, 35, 36, 39}), "starts[4] of ragged blocks is 39, wanted 40");
  expect_says(with({0, 3, 35, 36, 41}), "starts[4] of ragged blocks is 41, wanted 40");
  // And starts where there should be none.
  expect_says(SparseSymbols(worked_geometry(), kStarts).validate(), "blocks of 64x64");
}

TEST(RaggedSymbols, BlocksHoldingATokenRange) {
  const auto held = [](int begin, int end) {
    const BlockRange r = blocks_holding(kStarts, begin, end);
    return std::pair(r.begin, r.end);
  };
  EXPECT_EQ(held(0, 40), std::pair(0, 4));
  EXPECT_EQ(held(0, 3), std::pair(0, 1));
  EXPECT_EQ(held(2, 4), std::pair(0, 2));
  EXPECT_EQ(held(3, 4), std::pair(1, 2));
  EXPECT_EQ(held(34, 36), std::pair(1, 3));
  EXPECT_EQ(held(36, 37), std::pair(3, 4));
  EXPECT_EQ(held(5, 5), std::pair(0, 0));
}

TEST(RaggedSymbols, AlgebraWantsEqualStarts) {
  Rng rng(5);
  const SparseSymbols a = random_ragged_symbols(rng);
  EXPECT_EQ(*symbols_or(a, a), a);
  EXPECT_EQ(symbols_not(symbols_not(a)), a);
  EXPECT_EQ(symbols_dilate(a, 0), a);
  const SparseSymbols other(four_blocks(), std::vector<int32_t>{0, 4, 35, 36, 40});
  expect_says(symbols_and(SparseSymbols(four_blocks(), kStarts), other).status(),
              "differ in where their ragged blocks start");
  EXPECT_NE(SparseSymbols(four_blocks(), kStarts), other);
  expect_says(symbols_expand(other, 32, 32).status(), "4 blocks are ragged");
  const std::vector<int> order = {0, 1, 2, 3};
  expect_says(symbols_permute(other, order, order).status(), "4 blocks are ragged");
}

TEST(RaggedSymbols, FormsWithoutStartsAreRefused) {
  const SparseSymbols a(four_blocks(), kStarts);
  expect_says(from_flat(a.geometry(), to_flat(a)).status(), "flat symbols: do not say where");
  expect_says(from_index_lists(a.geometry(), to_index_lists(a)).status(), "index lists: do not");
  expect_says(from_masks(a.geometry(), to_masks(a)).status(), "masks: do not say where");
}

TEST(RaggedSymbols, PlansHaveAnItemForEveryComputedBlock) {
  Rng rng(6);
  for (int trial = 0; trial < 20; ++trial) {
    const SparseSymbols a = random_ragged_symbols(rng);
    std::vector<uint64_t> memory(plan_bytes(a.geometry()) / 8 + 1);
    build_plan(a, memory.data());
    const PlanReader plan(memory.data());
    EXPECT_EQ(plan.geometry(), a.geometry());
    EXPECT_EQ(plan.num_items(), a.counts().active_rows);
    EXPECT_EQ(plan.num_pairs(), a.counts().active_pairs);
    for (const PlanItem& item : plan.items()) EXPECT_TRUE(a.c(item.b, item.h, item.i));
  }
}

// The bytes by hand: the header, four blocks and where they end, a word each of S_c and four rows
// of S_s; the checksum is that of the file's own round trip.
TEST(RaggedSymbols, TheFileSaysWhereBlocksEnd) {
  SparseSymbols a(four_blocks(), kStarts);
  a.set_c(0, 0, 2, false);
  for (int j = 0; j < 4; ++j) a.set_s(0, 0, 2, j, false);
  a.set_s(0, 0, 0, 3, false);
  const std::vector<uint8_t> file = serialize_symbols(a);
  const auto u32 = [&](size_t at) {
    return uint32_t{file[at]} | uint32_t{file[at + 1]} << 8 | uint32_t{file[at + 2]} << 16 |
           uint32_t{file[at + 3]} << 24;
  };
  ASSERT_EQ(file.size(), 32u + 4 * 5 + 8 * 5 + 4);
  const uint32_t want[] = {0x59534f46, 2,      1, 1,      40, 40,     32, 32, 4, 3,      35, 36,
                           40,         0b1011, 0, 0b0111, 0,  0b1111, 0,  0,  0, 0b1111, 0};
  for (size_t k = 0; k < std::size(want); ++k) EXPECT_EQ(u32(4 * k), want[k]) << "number " << k;
  EXPECT_EQ(deserialize_symbols(file).value(), a);
}

TEST(RaggedSymbols, FilesRoundTrip) {
  Rng rng(7);
  for (int trial = 0; trial < 60; ++trial) {
    const SparseSymbols a = random_ragged_symbols(rng);
    const Result<SparseSymbols> back = deserialize_symbols(serialize_symbols(a));
    ASSERT_TRUE(back.ok()) << back.status().message();
    ASSERT_EQ(*back, a);
  }
}

}  // namespace
}  // namespace flashomni

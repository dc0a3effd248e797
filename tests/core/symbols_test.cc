// SPDX-License-Identifier: Apache-2.0
//
// SparseSymbols as a container: geometry limits, layout, counts, validity, repair, pictures.
#include "flashomni/symbols.h"

#include <gtest/gtest.h>

#include <climits>
#include <functional>

#include "core/symbols_view.h"
#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

using ::testing::Test;

SymbolGeometry geometry_with(const std::function<void(SymbolGeometry&)>& change) {
  SymbolGeometry g = worked_geometry();
  change(g);
  return g;
}

TEST(SymbolGeometry, RefusesEachFieldOutOfRangeByName) {
  const struct {
    const char* field;
    SymbolGeometry geometry;
  } kCases[] = {
      {"batch is 0", geometry_with([](auto& g) { g.batch = 0; })},
      {"batch is 1025", geometry_with([](auto& g) { g.batch = 1025; })},
      {"heads is -3", geometry_with([](auto& g) { g.heads = -3; })},
      {"q_tokens is 0", geometry_with([](auto& g) { g.q_tokens = 0; })},
      {"kv_tokens is 2147483647", geometry_with([](auto& g) { g.kv_tokens = INT_MAX; })},
      {"block_q is 96", geometry_with([](auto& g) { g.block_q = 96; })},
      {"block_kv is 0", geometry_with([](auto& g) { g.block_kv = 0; })},
      {"S_s has", geometry_with([](auto& g) { g.q_tokens = g.kv_tokens = kMaxSymbolTokens; })},
  };
  EXPECT_TRUE(worked_geometry().validate().ok());
  for (const auto& c : kCases) {
    const Status status = c.geometry.validate();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << c.field;
    EXPECT_NE(status.message().find(c.field), std::string::npos) << status.message();
  }
}

// The widest fields together must not overflow on the way to being refused.
TEST(SymbolGeometry, RefusesTheLargestFieldsTogether) {
  const SymbolGeometry g{
      kMaxSymbolBatch, kMaxSymbolHeads, kMaxSymbolTokens, kMaxSymbolTokens, 32, 32};
  EXPECT_FALSE(g.validate().ok());
}

TEST(SparseSymbols, StartsAllComputedWithZeroPadding) {
  Rng rng(1);
  for (int trial = 0; trial < 50; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a(g);
    ASSERT_TRUE(a.validate().ok()) << describe(g) << ": " << a.validate().to_string();
    const SymbolCounts counts = a.counts();
    EXPECT_EQ(counts.rows, int64_t{1} * g.batch * g.heads * g.num_q_blocks());
    EXPECT_EQ(counts.active_rows, counts.rows);
    EXPECT_EQ(counts.pairs, counts.rows * g.num_kv_blocks());
    EXPECT_EQ(counts.active_pairs, counts.pairs);
  }
}

TEST(SparseSymbols, EmptyOnesAreHarmless) {
  SparseSymbols a;
  EXPECT_FALSE(a.validate().ok());
  a.repair();
  EXPECT_EQ(a.counts().rows, 0);
  EXPECT_EQ(symbols_not(symbols_dilate(a, 3)), a);
}

// The words are the contract with every backend, so they are checked by hand.
TEST(SparseSymbols, WordsOfTheWorkedExample) {
  const SparseSymbols a = worked_example();
  EXPECT_EQ(std::vector(a.c_words().begin(), a.c_words().end()), (std::vector<uint64_t>{5, 3}));
  EXPECT_EQ(std::vector(a.s_words().begin(), a.s_words().end()),
            (std::vector<uint64_t>{0x03, 0, 0x1f, 0x11, 0x0e, 0}));
  EXPECT_EQ(a.counts().active_rows, 4);
  EXPECT_EQ(a.counts().active_pairs, 12);
  EXPECT_EQ(a.counts(0, 0).active_pairs, 7);
  EXPECT_EQ(a.counts(0, 1).active_rows, 2);
  EXPECT_DOUBLE_EQ(a.counts().pair_density(), 0.4);
}

TEST(SparseSymbols, WordsPastTheFirst) {
  const SymbolGeometry g{2, 3, 70 * 32, 130 * 32, 32, 32};
  SparseSymbols a = symbols_not(SparseSymbols(g));
  a.set_c(1, 2, 69, true);
  a.set_s(1, 2, 69, 129, true);
  EXPECT_EQ(a.c_words().back(), uint64_t{1} << 5);  // bit 69 of the last row
  EXPECT_EQ(a.s_words().back(), uint64_t{1} << 1);  // bit 129 of the last row
  EXPECT_TRUE(a.c(1, 2, 69));
  EXPECT_FALSE(a.cached(1, 2, 69));
  EXPECT_TRUE(a.s(1, 2, 69, 129));
  EXPECT_EQ(a.counts().active_pairs, 1);
}

TEST(SparseSymbols, CountsMatchTheirDefinition) {
  Rng rng(2);
  for (int trial = 0; trial < 50; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_bits(rng, g);
    SymbolCounts sum;
    for (int b = 0; b < g.batch; ++b) {
      for (int h = 0; h < g.heads; ++h) {
        int64_t rows = 0;
        int64_t pairs = 0;
        for (int i = 0; i < g.num_q_blocks(); ++i) {
          rows += a.c(b, h, i);
          for (int j = 0; j < g.num_kv_blocks(); ++j) pairs += a.c(b, h, i) && a.s(b, h, i, j);
        }
        ASSERT_EQ(a.counts(b, h).active_rows, rows) << describe(g);
        ASSERT_EQ(a.counts(b, h).active_pairs, pairs) << describe(g);
        sum.active_rows += rows;
        sum.active_pairs += pairs;
      }
    }
    ASSERT_EQ(a.counts().active_rows, sum.active_rows) << describe(g);
    ASSERT_EQ(a.counts().active_pairs, sum.active_pairs) << describe(g);
  }
}

TEST(SparseSymbols, ValidateNamesTheFirstOffender) {
  SparseSymbols a = worked_example();
  ASSERT_TRUE(a.validate().ok());

  SparseSymbols empty_row = a;
  for (int j = 0; j < 5; ++j) empty_row.set_s(0, 1, 1, j, false);
  EXPECT_NE(empty_row.validate().message().find("b=0, h=1, i=1"), std::string::npos)
      << empty_row.validate().message();

  SparseSymbols c_padding = a;
  c_padding.c_words()[1] |= uint64_t{1} << 3;
  EXPECT_NE(c_padding.validate().message().find("b=0, h=1, i=3"), std::string::npos)
      << c_padding.validate().message();

  SparseSymbols s_padding = a;
  s_padding.s_words()[2] |= uint64_t{1} << 63;
  EXPECT_NE(s_padding.validate().message().find("b=0, h=0, i=2"), std::string::npos)
      << s_padding.validate().message();
}

// On words of pure noise, padding included: afterwards valid, idempotent, and no decision that
// meant something has changed.
TEST(SparseSymbols, RepairMakesAnythingValidAndKeepsItsMeaning) {
  Rng rng(3);
  for (int trial = 0; trial < 50; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    SparseSymbols noise(g);
    for (uint64_t& word : noise.c_words()) word = rng.next();
    for (uint64_t& word : noise.s_words()) word = rng.coin(0.5) ? 0 : rng.next();
    SparseSymbols repaired = noise;
    repaired.repair();
    ASSERT_TRUE(repaired.validate().ok()) << repaired.validate().to_string();
    for (int b = 0; b < g.batch; ++b) {
      for (int h = 0; h < g.heads; ++h) {
        for (int i = 0; i < g.num_q_blocks(); ++i) {
          ASSERT_EQ(repaired.c(b, h, i), noise.c(b, h, i));
          int64_t before = 0;
          for (int j = 0; j < g.num_kv_blocks(); ++j) before += noise.s(b, h, i, j);
          const int diagonal = std::min(i * g.block_q / g.block_kv, g.num_kv_blocks() - 1);
          for (int j = 0; j < g.num_kv_blocks(); ++j) {
            const bool wanted =
                noise.c(b, h, i) && (before > 0 ? noise.s(b, h, i, j) : j == diagonal);
            ASSERT_EQ(repaired.s(b, h, i, j), wanted) << describe(g) << " i=" << i << " j=" << j;
          }
        }
      }
    }
    SparseSymbols again = repaired;
    again.repair();
    ASSERT_EQ(again, repaired);
  }
}

TEST(SparseSymbols, AsciiOfTheWorkedExample) {
  EXPECT_EQ(symbols_ascii(worked_example(), 0, 0), "##...\n-----\n#####\n");
  EXPECT_EQ(symbols_ascii(worked_example(), 0, 1), "#...#\n.###.\n-----\n");
}

TEST(SparseSymbols, PictureHasOneColourACell) {
  const SparseSymbols a = worked_example();
  constexpr int kCell = 3;
  const SymbolsPicture picture = symbols_picture(a, 0, 1, kCell);
  ASSERT_EQ(picture.width, 15);
  ASSERT_EQ(picture.height, 9);
  ASSERT_EQ(picture.rgb.size(), 15u * 9u * 3u);
  const auto pixel = [&](int x, int y) {
    const uint8_t* p = picture.rgb.data() + 3 * (y * picture.width + x);
    return std::vector<int>{p[0], p[1], p[2]};
  };
  const auto computed = pixel(0, 0);
  const auto skipped = pixel(kCell, 0);
  const auto cached = pixel(0, 2 * kCell);
  EXPECT_NE(computed, skipped);
  EXPECT_NE(computed, cached);
  EXPECT_NE(skipped, cached);
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      const int i = y / kCell;
      const int j = x / kCell;
      ASSERT_EQ(pixel(x, y), a.cached(0, 1, i) ? cached : a.s(0, 1, i, j) ? computed : skipped);
    }
  }
}

}  // namespace
}  // namespace flashomni

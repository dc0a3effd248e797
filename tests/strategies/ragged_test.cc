// SPDX-License-Identifier: Apache-2.0
//
// Ragged blocks: strategies whose blocks end where tiles of tokens do have exactly the mask of the
// tiles, on grids that tiles do not divide.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "reference/pooling.h"
#include "reference/row_scores.h"
#include "reference/select_rules.h"
#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

// Text before the grid, or after it.
SequenceInfo video(int frames, int rows, int cols, int text, bool text_last = false) {
  SequenceInfo s = sequence(frames * rows * cols + text, text);
  s.grid = {frames, rows, cols};
  if (text_last) {
    s.text_begin = s.tokens - text;
    s.text_end = s.tokens;
  }
  return s;
}

// Each line once a string, with its line break.
std::string lines(std::initializer_list<std::string> all) {
  std::string text;
  for (const std::string& line : all) text += line + "\n";
  return text;
}

StaOptions sta_options(int frames, int rows, int cols, int block) {
  StaOptions o;
  o.tile_frames = frames;
  o.tile_rows = rows;
  o.tile_cols = cols;
  o.block_q = o.block_kv = block;
  o.ragged = true;
  return o;
}

// A picture of 5 x 7 tokens in tiles of 2 x 3 behind 5 of text: tiles of 2, 2 and 1 rows by 3, 3
// and 1 columns. Each sees its row of tiles, whose centre is the second.
TEST(RaggedSta, MaskByHand) {
  StaOptions o = sta_options(1, 2, 3, 32);
  o.window_frames = o.window_rows = 1;
  o.window_cols = 3;
  auto strategy = std::move(*make_sta(o));
  SequenceInfo s = video(1, 5, 7, 5);
  EXPECT_EQ(*strategy->block_starts(s),
            (std::vector<int32_t>{0, 5, 11, 17, 19, 25, 31, 33, 36, 39, 40}));
  const std::string text = "##########", first = "####......", second = "#...###...",
                    third = "#......###";
  EXPECT_EQ(symbols_ascii(build(*strategy, s).symbols, 0, 1),
            lines({text, first, first, first, second, second, second, third, third, third}));

  o.window_cols = 1;
  o.protect_text = false;
  auto alone = std::move(*make_sta(o));
  s = video(1, 5, 7, 5, true);
  EXPECT_EQ(*alone->block_starts(s),
            (std::vector<int32_t>{0, 6, 12, 14, 20, 26, 28, 31, 34, 35, 40}));
  // Each tile sees itself, and text nothing but the repair.
  const SparseSymbols diagonal = build(*alone, s).symbols;
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 10; ++j) EXPECT_EQ(diagonal.s(0, 0, i, j), i == j) << i << "," << j;
  }
}

// Tiles of 8 x 8 tokens are two blocks of 32, the last of 8 x 3 is one of 24.
TEST(RaggedSta, LongTilesAreSeveralBlocks) {
  StaOptions o = sta_options(1, 8, 8, 32);
  o.window_frames = o.window_rows = o.window_cols = 1;
  auto strategy = std::move(*make_sta(o));
  const SequenceInfo s = video(1, 8, 11, 40);
  EXPECT_EQ(*strategy->block_starts(s), (std::vector<int32_t>{0, 32, 40, 72, 104, 128}));
  EXPECT_EQ(symbols_ascii(build(*strategy, s).symbols, 0, 0),
            lines({"#####", "#####", "####.", "####.", "##..#"}));
}

// Token by token against the published rule, from the coordinates alone.
TEST(RaggedSta, EveryTokenSeesTheTilesOfItsWindow) {
  for (const auto& [frames, rows, cols] :
       {std::array{5, 7, 9}, std::array{4, 6, 11}, std::array{1, 13, 10}}) {
    for (const int block : {32, 128}) {
      StaOptions o = sta_options(2, 4, 4, block);
      o.window_frames = 1;
      o.window_rows = o.window_cols = 3;
      auto strategy = std::move(*make_sta(o));
      const SequenceInfo s = video(frames, rows, cols, 7);
      const std::vector<int> order = *strategy->token_order(s);
      const std::vector<int32_t> starts = *strategy->block_starts(s);
      const SparseSymbols symbols = build(*strategy, s).symbols;
      EXPECT_LT(symbols.counts().pair_density(), 1.0);
      const auto block_of = [&](int token) {
        return int(std::ranges::upper_bound(starts, token) - starts.begin()) - 1;
      };
      const auto near = [](int q, int k, int tokens, int tile, int window) {
        const int count = (tokens + tile - 1) / tile, half = window / 2;
        if (2 * half >= count) return true;
        return std::abs(std::clamp(q / tile, half, count - 1 - half) - k / tile) <= half;
      };
      for (int a = 0; a < s.tokens; a += 3) {
        for (int b = 0; b < s.tokens; ++b) {
          bool want = a < 7 || b < 7;
          if (!want) {
            const int q = order[size_t(a - 7)], k = order[size_t(b - 7)];
            want = near(q / cols / rows, k / cols / rows, frames, 2, 1) &&
                   near(q / cols % rows, k / cols % rows, rows, 4, 3) &&
                   near(q % cols, k % cols, cols, 4, 3);
          }
          ASSERT_EQ(symbols.s(0, 1, block_of(a), block_of(b)), want)
              << frames << "x" << rows << "x" << cols << " tokens " << a << "," << b;
        }
      }
    }
  }
}

std::vector<double> widen(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

// Scores [H, n, n] of the pooled tiles, by the oracle.
std::vector<double> pooled_scores(const Built& b, const SequenceInfo& s) {
  const std::vector<int> starts(b.symbols.starts().begin(), b.symbols.starts().end());
  const int n = b.symbols.geometry().ragged_blocks;
  const auto q = reference::pool<double>(1, s.tokens, s.heads, s.head_dim, starts, widen(b.q), {});
  const auto k = reference::pool<double>(1, s.tokens, s.heads, s.head_dim, starts, widen(b.k), {});
  return reference::block_scores<double>(s.heads, n, n, s.head_dim, q.mean, k.mean, 0);
}

TEST(RaggedVsa, KeepsTheBestTilesOfEachTile) {
  VsaOptions o;
  o.tile_frames = 2;
  o.ragged = true;
  o.block_q = o.block_kv = 32;
  o.sparsity = 0.7;
  auto strategy = std::move(*make_vsa(o));
  const SequenceInfo s = video(3, 9, 10, 11);  // 2 x 3 x 3 tiles of 32 tokens down to 2
  const Built b = build(*strategy, s);
  const int n = b.symbols.geometry().ragged_blocks;
  ASSERT_EQ(n, 1 + 18);
  EXPECT_EQ(b.symbols.starts()[1], 11);
  EXPECT_EQ(b.symbols.starts()[2], 11 + 32);
  EXPECT_EQ(b.symbols.starts()[4], 11 + 32 + 32 + 16);
  EXPECT_EQ(b.symbols.starts()[18], s.tokens - 2);
  reference::KvBlocksInput<double> in;
  in.shape = {1, s.heads, n, n, 32, 32};
  in.scores = pooled_scores(b, s);
  in.rule = reference::Rule::kTopK;
  in.parameter = 6;  // ceil(0.3 * 19)
  in.keep_q = in.keep_kv = {0, 1};
  in.c.assign(size_t(s.heads * n), 1);
  EXPECT_EQ(to_masks(b.symbols).s, reference::select_kv_blocks(in));
}

TEST(RaggedDraft, OneThresholdAHeadOverPatches) {
  DraftOptions o;
  o.patch_rows = 4;
  o.patch_cols = 8;
  o.ragged = true;
  o.block_q = o.block_kv = 32;
  o.sparsity = 0.6;
  auto strategy = std::move(*make_draft(o));
  const SequenceInfo s = video(2, 10, 19, 40);  // 2 x 3 x 3 patches, two blocks of text
  const Built b = build(*strategy, s);
  const int n = b.symbols.geometry().ragged_blocks;
  ASSERT_EQ(n, 2 + 18);
  const std::vector<double> scores = pooled_scores(b, s);
  const reference::ScoreShape shape{1, 1, n, n, 32, 32};
  int skipped = 0;
  for (int h = 0; h < s.heads; ++h) {
    const std::vector<double> own(scores.begin() + h * n * n, scores.begin() + (h + 1) * n * n);
    const auto want = reference::select_kv_share(shape, own, o.sparsity, {0, 2}, {0, 2},
                                                 std::vector<uint8_t>(size_t(n), 1));
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        EXPECT_EQ(b.symbols.s(0, h, i, j), want[size_t(i * n + j)] != 0) << i << "," << j;
        skipped += !b.symbols.s(0, h, i, j);
      }
    }
  }
  EXPECT_GT(skipped, 300);
}

// Tiles that are whole blocks: ragged or not, the same blocks and the same choice.
TEST(Ragged, WholeTilesChangeNothing) {
  const SequenceInfo s = video(4, 8, 8, 0);
  for (const char* name : {"sta", "vsa", "draft"}) {
    OptionMap options = {{"block_q", int64_t{32}}, {"block_kv", int64_t{32}}};
    const std::string which = name;
    if (which == "draft") {
      options.insert({{"patch_rows", int64_t{4}}, {"patch_cols", int64_t{8}}});
    } else {
      options["tile_frames"] = int64_t{2};
      options["tile_rows"] = options["tile_cols"] = int64_t{4};
    }
    if (which == "sta") {
      options["window_frames"] = options["window_rows"] = options["window_cols"] = int64_t{1};
    }
    auto plain = std::move(*make_strategy(name, options));
    options["ragged"] = true;
    auto ragged = std::move(*make_strategy(name, options));
    const SparseSymbols a = build(*plain, s).symbols, b = build(*ragged, s).symbols;
    EXPECT_FALSE(a.geometry().ragged());
    EXPECT_EQ(b.geometry().ragged_blocks, 8);
    EXPECT_EQ(symbols_ascii(a, 0, 0), symbols_ascii(b, 0, 0)) << name;
    EXPECT_LT(b.counts().pair_density(), 1.0) << name;
  }
}

void expect_says(const Status& status, const std::string& words) {
  EXPECT_FALSE(status.ok()) << "wanted: " << words;
  EXPECT_NE(status.message().find(words), std::string::npos) << status.message();
}

TEST(Ragged, WhatBlocksCannotBeIsRefusedByName) {
  const OptionMap on = {{"ragged", true}};
  const auto refused = [&](const char* name, OptionMap options, const std::string& words) {
    options.insert(on.begin(), on.end());
    expect_says(make_strategy(name, options).status(), words);
  };
  for (const char* name : {"sta", "vsa", "draft"}) {
    refused(name, {{"block_q", int64_t{128}}, {"block_kv", int64_t{64}}},
            "block_q is 128 and block_kv 64");
    // No grid, no tiles.
    auto strategy = std::move(*make_strategy(name, on));
    expect_says(strategy->block_starts(sequence(100, 0)).status(), "gives no token grid");
    SequenceInfo odd = video(1, 8, 8, 0);
    odd.tokens = 70;
    expect_says(strategy->block_starts(odd).status(), "have 64 tokens, the sequence has 70");
  }
  refused("vsa", {{"tile_rows", int64_t{5}}}, "a tile of 4x5x4, wanted 1 to 64 tokens");
  refused("vsa",
          {{"tile_frames", int64_t{0}}, {"tile_rows", int64_t{0}}, {"tile_cols", int64_t{0}}},
          "a tile of 0x0x0");
  refused("draft", {{"patch_cols", int64_t{17}}}, "a patch of 8x17, wanted 1 to 128 tokens");
  expect_says(make_strategy("svg1", on).status(), "ragged");
}

}  // namespace
}  // namespace flashomni

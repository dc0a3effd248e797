// SPDX-License-Identifier: Apache-2.0
//
// Static patterns over the token grid, token by token.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

// Whether any token pair of the blocks is kept; text by its blocks.
template <class Keep>
void expect_pattern(const SparseSymbols& symbols, const SequenceInfo& s, int head,
                    const Keep& keep) {
  const SymbolGeometry& g = symbols.geometry();
  for (int i = 0; i < g.num_q_blocks(); ++i) {
    for (int j = 0; j < g.num_kv_blocks(); ++j) {
      bool want = i * g.block_q < s.text_end || j * g.block_kv < s.text_end;
      for (int a = i * g.block_q; a < std::min(s.tokens, (i + 1) * g.block_q) && !want; ++a) {
        for (int b = j * g.block_kv; b < std::min(s.tokens, (j + 1) * g.block_kv); ++b) {
          want = want || keep(a - s.text_end, b - s.text_end);
        }
      }
      EXPECT_EQ(symbols.s(0, head, i, j), want) << i << "," << j;
    }
  }
}

SequenceInfo video(int frames, int rows, int cols, int text) {
  SequenceInfo s = sequence(frames * rows * cols + text, text);
  s.grid = {frames, rows, cols};
  return s;
}

TEST(Radial, WindowsHalveWithTheDistance) {
  for (const double decay : {0.2, 0.95}) {
    RadialOptions o;
    o.decay = decay;
    o.first_frame = decay < 0.5;
    o.block_q = o.block_kv = 32;
    auto strategy = std::move(*make_radial(o));
    const SequenceInfo s = video(12, 10, 13, 40);  // 130 tokens a frame, text in its way
    const SparseSymbols symbols = build(*strategy, s).symbols;
    const int frame = 130;
    expect_pattern(symbols, s, 1, [&](int a, int b) {
      const int distance = std::abs(a / frame - b / frame);
      if (o.first_frame && b / frame == 0) return true;
      if (distance <= 1) return true;
      // 2^bit_length(130) = 256, halved by 2^bit_length(distance).
      const double halved = 256.0 / std::exp2(std::floor(std::log2(distance)) + 1);
      if (halved < 32 && distance % int(32 / halved) != 0) return false;
      return std::abs(a % frame - b % frame) <= std::max(decay * halved, 32.0);
    });
    EXPECT_LT(symbols.counts().pair_density(), 0.95);
  }
}

TEST(Sta, TilesSeeTheirWindow) {
  StaOptions o;
  o.tile_frames = 2;
  o.tile_rows = 4;
  o.tile_cols = 4;
  o.window_frames = o.window_rows = 1;
  o.window_cols = 3;
  o.block_q = o.block_kv = 32;
  auto strategy = std::move(*make_sta(o));
  // 3 x 2 x 5 tiles of exactly one block, behind one block of text.
  const SequenceInfo s = video(6, 8, 20, 32);
  const SparseSymbols symbols = build(*strategy, s).symbols;
  for (int q = 0; q < 30; ++q) {
    for (int k = 0; k < 30; ++k) {
      const int centre = std::clamp(q % 5, 1, 3);
      const bool want = q / 5 == k / 5 && std::abs(centre - k % 5) <= 1;
      EXPECT_EQ(symbols.s(0, 0, q + 1, k + 1), want) << q << "," << k;
    }
  }
  // Three of thirty tiles and the text.
  EXPECT_EQ(symbols.counts(0, 0).active_pairs, 31 + 30 * (3 + 1));
  // Blocks across tiles see the union: denser, never less.
  o.block_q = o.block_kv = 64;
  auto coarse = std::move(*make_sta(o));
  const SparseSymbols wide = build(*coarse, s).symbols;
  const SparseSymbols fine = *symbols_expand(wide, 32, 32);
  for (int i = 0; i < 31; ++i) {
    for (int j = 0; j < 31; ++j) EXPECT_TRUE(fine.s(0, 0, i, j) || !symbols.s(0, 0, i, j));
  }
}

TEST(Svg1, HeadsTakeABandOverSpaceOrTime) {
  Svg1Options o;
  o.density = 0.3;
  o.first_frame = false;
  o.block_q = o.block_kv = 32;
  auto strategy = std::move(*make_svg1(o));
  const SequenceInfo s = video(6, 10, 16, 0);
  const int n = 960, frame = 160, frames = 6;
  const double band = n * (1 - std::sqrt(1 - 0.3));
  auto space = [&](int a, int b) { return std::abs(a - b) <= band; };
  auto place = [&](int t) { return t % frame * frames + t / frame; };
  auto time = [&](int a, int b) { return std::abs(place(a) - place(b)) <= band; };
  int spatial = 0, temporal = 0;
  for (const uint64_t seed : {1, 2, 3}) {
    const SparseSymbols symbols = build(*strategy, s, 25, seed).symbols;
    for (int h = 0; h < 2; ++h) {
      // Far ends of the first and the last frame are near in space order only when the band is
      // wide.
      const bool is_temporal = symbols.s(0, h, 0, 25);
      if (is_temporal) {
        ++temporal;
        expect_pattern(symbols, s, h, time);
      } else {
        ++spatial;
        expect_pattern(symbols, s, h, space);
      }
    }
  }
  EXPECT_EQ(spatial + temporal, 6);
}

// In tiles of frames and places both bands are narrow where frames are short: 8 places of 8 frames
// a block, as on a small picture.
TEST(Svg1, TilesMakeBothBandsNarrow) {
  Svg1Options o;
  o.density = 0.2;
  o.first_frame = false;
  o.block_q = o.block_kv = 64;
  const SequenceInfo s = video(32, 1, 32, 0);
  auto plain = std::move(*make_svg1(o));
  o.tile_frames = o.tile_places = 8;
  auto tiled = std::move(*make_svg1(o));
  const std::vector<int> order = *tiled->token_order(s);
  ASSERT_EQ(order.size(), 1024u);
  EXPECT_EQ(order[8], 32) << "the second frame of the first tile";
  EXPECT_EQ(order[64], 8) << "the second tile";
  EXPECT_TRUE(plain->token_order(s)->empty());

  const int frame = 32, frames = 32;
  const double band = 1024 * (1 - std::sqrt(1 - 0.2));  // 108 tokens: 3.4 frames or 3.4 places
  auto near = [&](int a, int b) { return std::abs(order[size_t(a)] - order[size_t(b)]) <= band; };
  auto place = [&](int p) { return order[size_t(p)] % frame * frames + order[size_t(p)] / frame; };
  auto soon = [&](int a, int b) { return std::abs(place(a) - place(b)) <= band; };
  for (const uint64_t seed : {1, 2}) {
    const SparseSymbols symbols = build(*tiled, s, 25, seed).symbols;
    for (int h = 0; h < 2; ++h) {
      // By hand, of 4 x 4 tiles: all places of the same and the next frames, or all frames of the
      // same and the next places.
      const std::string first = symbols_ascii(symbols, 0, h).substr(0, 17);
      const bool temporal = first == "##..##..##..##..\n";
      EXPECT_TRUE(temporal || first == "########........\n") << first;
      if (temporal) {
        expect_pattern(symbols, s, h, soon);
      } else {
        expect_pattern(symbols, s, h, near);
      }
    }
  }
  // In the grid's own order a block holds two whole frames, and time knows no far places.
  EXPECT_EQ(build(*plain, s).symbols.counts().pair_density(), 1.0);
  o.tile_places = 0;
  EXPECT_NE(make_svg1(o).status().message().find("all sides 0 or none"), std::string::npos);
}

TEST(VideoPatterns, APicturesRowsStandForFrames) {
  RadialOptions o;
  o.block_q = o.block_kv = 32;
  auto strategy = std::move(*make_radial(o));
  SequenceInfo s = video(1, 64, 64, 0);
  EXPECT_LT(build(*strategy, s).symbols.counts().pair_density(), 0.8);
  s.grid = {};
  EXPECT_NE(strategy->begin_run(run_of(s)).message().find("token grid"), std::string::npos);
}

}  // namespace
}  // namespace flashomni

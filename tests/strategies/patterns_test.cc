// SPDX-License-Identifier: Apache-2.0
//
// The symbols that strategies build, against closed forms and the oracle's selection rules.
#include <gtest/gtest.h>

#include <cmath>

#include "reference/pooling.h"
#include "reference/select_symbols.h"
#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

TEST(Window, SeesExactlyTheBlocksWithinTheDistance) {
  WindowOptions o;
  o.window = 100;
  o.block_q = 64;
  o.block_kv = 32;
  auto strategy = std::move(*make_window(o));
  const SequenceInfo s = sequence(1000, 40);
  const SparseSymbols symbols = build(*strategy, s).symbols;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 32; ++j) {
      // Token by token: does any query of block i lie within 100 of any key of block j?
      bool near = false;
      for (int q = i * 64; q < std::min(1000, i * 64 + 64); ++q) {
        for (int k = j * 32; k < std::min(1000, j * 32 + 32); ++k) near |= std::abs(q - k) <= 100;
      }
      const bool text = i == 0 || j < 2;  // tokens 0..39 touch row block 0 and kv blocks 0 and 1
      EXPECT_EQ(symbols.s(0, 1, i, j), near || text) << i << "," << j;
    }
  }
}

TEST(BlockDiagonal, DensityIsOneOverGroups) {
  BlockDiagonalOptions o;
  o.groups = 4;
  o.protect_text = false;
  auto strategy = std::move(*make_block_diagonal(o));
  const SparseSymbols symbols = build(*strategy, sequence(64 * 16, 64)).symbols;
  EXPECT_DOUBLE_EQ(symbols.counts().pair_density(), 0.25);
  EXPECT_TRUE(symbols.s(0, 0, 3, 0));
  EXPECT_FALSE(symbols.s(0, 0, 4, 3));
}

TEST(Random, CountsAreExactAndSeeded) {
  RandomOptions o;
  o.cached = 0.3;
  o.skipped = 0.4;
  o.seed = 9;
  auto strategy = std::move(*make_random(o));
  const SequenceInfo s = sequence(64 * 21, 64, 4);
  const SparseSymbols a = build(*strategy, s).symbols, b = build(*strategy, s).symbols;
  EXPECT_TRUE(a == b);
  EXPECT_FALSE(a == build(*strategy, s, 26).symbols);
  // 4 heads x 20 unprotected rows: 24 cached; 56 rows x 20 unprotected columns: 448 skipped.
  EXPECT_EQ(a.counts().active_rows, 84 - 24);
  EXPECT_EQ(a.counts().active_pairs, 60 * 21 - 448);
  for (int h = 0; h < 4; ++h) {
    for (int j = 0; j < 21; ++j) EXPECT_TRUE(a.s(0, h, 0, j));
  }
}

// [B, N, H, d] as double.
std::vector<double> widen(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

// The whole policy in double precision from the oracle's pieces.
void expect_policy(const FlashOmniOptions& o, const SequenceInfo& s, int step, uint64_t seed) {
  auto strategy = std::move(*make_flashomni(o));
  const Built built = build(*strategy, s, step, seed);
  const SymbolGeometry g = built.symbols.geometry();
  const auto q = reference::pool<double>(s.batch, s.tokens, s.heads, s.head_dim, o.block_q,
                                         widen(built.q), {});
  std::vector<double> mean;
  if (o.smooth_k) {
    mean = reference::token_mean<double>(s.batch, s.tokens, s.heads, s.head_dim, widen(built.k));
  }
  const auto k = reference::pool<double>(s.batch, s.tokens, s.heads, s.head_dim, o.block_kv,
                                         widen(built.k), mean);
  const reference::ScoreShape shape{s.batch,           s.heads,   g.num_q_blocks(),
                                    g.num_kv_blocks(), g.block_q, g.block_kv};
  const auto scores =
      reference::block_scores<double>(s.batch * s.heads, shape.num_q, shape.num_kv, s.head_dim,
                                      q.mean, k.mean, 1 / std::sqrt(double(s.head_dim)));
  auto gates = [&](const std::vector<double>& similarity) {
    std::vector<uint8_t> out;
    for (double x : similarity) out.push_back(x > o.theta_sim);
    return out;
  };
  auto blocks = [&](int block) {
    return reference::Blocks{s.text_begin / block, (s.text_end + block - 1) / block};
  };
  const double progress = std::pow(step / 50.0, o.ramp);
  reference::CachedRowsInput<double> rows;
  rows.shape = shape;
  rows.scores = scores;
  rows.text_q = blocks(o.block_q);
  rows.text_kv = blocks(o.block_kv);
  rows.mode = o.text_score == "softmax_of_sum" ? reference::TextScore::kSoftmaxOfSum
                                               : reference::TextScore::kMeanOfSoftmaxes;
  rows.theta = o.tau_q * progress;
  if (o.sim_gate) rows.gate_q = gates(q.similarity);
  const std::vector<uint8_t> c = reference::select_cached_rows(rows);
  reference::KvBlocksInput<double> kv;
  kv.shape = shape;
  kv.scores = scores;
  kv.parameter = o.tau_kv * progress;
  if (o.protect_text) {
    kv.keep_q = rows.text_q;
    kv.keep_kv = rows.text_kv;
  }
  if (o.sim_gate) {
    kv.gate_q = rows.gate_q;
    kv.gate_kv = gates(k.similarity);
  }
  kv.c = c;
  const std::vector<uint8_t> sel = reference::select_kv_blocks(kv);
  const MaskSymbols seen = to_masks(built.symbols);
  EXPECT_EQ(seen.c, c) << "step " << step << " seed " << seed;
  EXPECT_EQ(seen.s, sel) << "step " << step << " seed " << seed;
  // The case must have something to decide.
  const double density = built.symbols.counts().pair_density();
  EXPECT_GT(density, 0.02);
  EXPECT_LT(density, 0.98);
}

TEST(FlashOmni, MatchesTheOracle) {
  FlashOmniOptions o;
  o.tau_q = 0.6;
  o.tau_kv = 0.5;
  for (const uint64_t seed : {1, 2, 3}) {
    for (const int step : {30, 40, 49}) {
      FlashOmniOptions p = o;
      expect_policy(p, sequence(600, 64), step, seed);
      p.block_q = 128;
      p.block_kv = 64;
      expect_policy(p, sequence(1000, 77, 3, 32), step, seed);
      p.text_score = "softmax_of_sum";
      p.smooth_k = true;
      p.ramp = 1.7;
      SequenceInfo tail = sequence(900, 0);  // HunyuanVideo: text last
      tail.text_begin = 700;
      tail.text_end = 900;
      expect_policy(p, tail, step, seed);
    }
  }
}

TEST(FlashOmni, SimilarityGateKeepsUnlikeBlocks) {
  FlashOmniOptions o;
  o.tau_q = 0.7;
  o.tau_kv = 0.6;
  o.sim_gate = true;
  // Random blocks of 64 have similarity about 1/64; a threshold in that region gates some of them.
  o.theta_sim = 1.0 / 64;
  expect_policy(o, sequence(640, 64), 45, 4);
}

TEST(FlashOmni, ThresholdsGrowWithTheRamp) {
  FlashOmniOptions o;
  auto strategy = std::move(*make_flashomni(o));
  const SequenceInfo s = sequence(1088, 64);
  double last = 1.1;
  for (const int step : {5, 20, 35, 49}) {
    const double density = build(*strategy, s, step).symbols.counts().pair_density();
    EXPECT_LT(density, last) << step;
    last = density;
  }
}

TEST(FlashOmni, ZeroThresholdsDropNothing) {
  FlashOmniOptions o;
  o.tau_q = o.tau_kv = 0;
  auto strategy = std::move(*make_flashomni(o));
  const SymbolCounts c = build(*strategy, sequence(500, 64)).symbols.counts();
  EXPECT_EQ(c.active_pairs, c.pairs);
  EXPECT_NE(strategy->dense_reason(), "");
}

TEST(FlashOmni, WithoutTextNoRowIsCached) {
  FlashOmniOptions o;
  auto strategy = std::move(*make_flashomni(o));
  const SymbolCounts c = build(*strategy, sequence(500, 0), 49).symbols.counts();
  EXPECT_EQ(c.active_rows, c.rows);
  EXPECT_LT(c.active_pairs, c.pairs);
}

}  // namespace
}  // namespace flashomni

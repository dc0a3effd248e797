// SPDX-License-Identifier: Apache-2.0
//
// Strategies that choose blocks from each step's queries and keys, against the oracle's formulas.
#include <gtest/gtest.h>

#include <cmath>

#include "reference/pooling.h"
#include "reference/row_scores.h"
#include "reference/select_rules.h"
#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

std::vector<double> widen(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

struct Pooled {
  std::vector<double> scores;  // [H, nQ, nKV]
  std::vector<uint8_t> gate_q, gate_k;
};

Pooled pooled(const Built& b, const SequenceInfo& s, bool smooth, double theta) {
  const SymbolGeometry& g = b.symbols.geometry();
  const auto q =
      reference::pool<double>(1, s.tokens, s.heads, s.head_dim, g.block_q, widen(b.q), {});
  std::vector<double> mean;
  if (smooth) mean = reference::token_mean<double>(1, s.tokens, s.heads, s.head_dim, widen(b.k));
  const auto k =
      reference::pool<double>(1, s.tokens, s.heads, s.head_dim, g.block_kv, widen(b.k), mean);
  Pooled out;
  out.scores =
      reference::block_scores<double>(s.heads, g.num_q_blocks(), g.num_kv_blocks(), s.head_dim,
                                      q.mean, k.mean, 1 / std::sqrt(double(s.head_dim)));
  for (const double x : q.similarity) out.gate_q.push_back(x > theta);
  for (const double x : k.similarity) out.gate_k.push_back(x > theta);
  return out;
}

void expect_sparge(const SpargeOptions& o, const SequenceInfo& s, uint64_t seed) {
  auto strategy = std::move(*make_sparge(o));
  const Built b = build(*strategy, s, 25, seed);
  const SymbolGeometry& g = b.symbols.geometry();
  const Pooled p = pooled(b, s, o.smooth_k, o.theta_sim);
  reference::KvBlocksInput<double> in;
  in.shape = {1, s.heads, g.num_q_blocks(), g.num_kv_blocks(), g.block_q, g.block_kv};
  in.scores = p.scores;
  in.rule = o.mode == "topk" ? reference::Rule::kTopK : reference::Rule::kKeepCdfLt;
  in.parameter = o.mode == "topk" ? std::max(1.0, std::floor(o.topk * g.num_kv_blocks())) : o.tau;
  if (o.protect_text) {
    in.keep_q = {0, (s.text_end + g.block_q - 1) / g.block_q};
    in.keep_kv = {0, (s.text_end + g.block_kv - 1) / g.block_kv};
  }
  in.gate_q = p.gate_q;
  in.gate_kv = p.gate_k;
  in.c.assign(p.gate_q.size(), 1);
  EXPECT_EQ(to_masks(b.symbols).s, reference::select_kv_blocks(in)) << o.mode << " " << seed;
  EXPECT_LT(b.symbols.counts().pair_density(), 1.0);
}

TEST(Sparge, MatchesTheOracleInBothModes) {
  for (const uint64_t seed : {1, 2, 3}) {
    SpargeOptions o;
    o.topk = 0.3;
    expect_sparge(o, sequence(1000, 70), seed);
    o.mode = "cdf";
    o.tau = 0.6;
    // Random blocks of 64 and 128 are about 1/64 and 1/128 similar: the gate splits them.
    o.theta_sim = 1.0 / 64;
    o.block_q = 64;
    expect_sparge(o, sequence(1000, 70), seed);
    o.smooth_k = false;
    o.protect_text = false;
    expect_sparge(o, sequence(999, 0), seed);
  }
}

TEST(Sparge, TheSinkIsTheFirstColumn) {
  SpargeOptions o;
  o.topk = 0.1;
  o.sink = true;
  o.protect_text = false;
  auto strategy = std::move(*make_sparge(o));
  const SparseSymbols s = build(*strategy, sequence(1000, 0)).symbols;
  for (int i = 0; i < s.geometry().num_q_blocks(); ++i) EXPECT_TRUE(s.s(0, 1, i, 0));
  // Text at the end and a sink at the start are two ranges.
  o.protect_text = true;
  SequenceInfo tail = sequence(1000, 1000);
  tail.text_begin = 900;
  auto refused = std::move(*make_sparge(o));
  EXPECT_NE(refused->begin_run(run_of(tail)).message().find("sink"), std::string::npos);
}

TEST(Vsa, KeepsExactlyTheBestBlocks) {
  VsaOptions o;
  o.sparsity = 0.9;
  o.protect_text = false;
  auto strategy = std::move(*make_vsa(o));
  const SequenceInfo s = sequence(640, 0);
  const Built b = build(*strategy, s);
  const Pooled p = pooled(b, s, false, 0);
  for (int h = 0; h < 2; ++h) {
    for (int i = 0; i < 10; ++i) {
      // A tenth of ten blocks is one: the largest.
      const double* row = &p.scores[size_t(h * 10 + i) * 10];
      const auto best = int(std::max_element(row, row + 10) - row);
      for (int j = 0; j < 10; ++j) EXPECT_EQ(b.symbols.s(0, h, i, j), j == best);
    }
  }
  o.sparsity = 0.85;  // 1.5 of ten is two
  auto two = std::move(*make_vsa(o));
  EXPECT_DOUBLE_EQ(build(*two, s).symbols.counts().pair_density(), 0.2);
}

TEST(Draft, OneThresholdAHeadLeavesTheShareOut) {
  DraftOptions o;
  o.sparsity = 0.7;
  o.block_q = o.block_kv = 64;
  auto strategy = std::move(*make_draft(o));
  const SequenceInfo s = sequence(64 * 17, 64);
  const Built b = build(*strategy, s);
  const Pooled p = pooled(b, s, false, 0);
  const reference::ScoreShape shape{1, 1, 17, 17, 64, 64};
  for (int h = 0; h < 2; ++h) {
    const std::vector<double> own(p.scores.begin() + h * 289, p.scores.begin() + (h + 1) * 289);
    const auto want = reference::select_kv_share(shape, own, o.sparsity, {0, 1}, {0, 1},
                                                 std::vector<uint8_t>(17, 1));
    int skipped = 0;
    for (int i = 0; i < 17; ++i) {
      for (int j = 0; j < 17; ++j) {
        EXPECT_EQ(b.symbols.s(0, h, i, j), want[size_t(i * 17 + j)] != 0);
        skipped += !b.symbols.s(0, h, i, j);
      }
    }
    // floor(.7 * 256) = 179, the 179th smallest itself stays; text never empties a row.
    EXPECT_EQ(skipped, 178);
  }
}

TEST(Draft, PatchesAreContiguous) {
  DraftOptions o;
  o.patch_rows = 2;
  o.patch_cols = 3;
  SequenceInfo s = sequence(24, 0);
  s.grid = {1, 4, 6};
  const auto order = *std::move(*make_draft(o))->token_order(s);
  EXPECT_EQ(order, (std::vector<int>{0,  1,  2,  6,  7,  8,  3,  4,  5,  9,  10, 11,
                                     12, 13, 14, 18, 19, 20, 15, 16, 17, 21, 22, 23}));
  // Edges that do not divide, and frames of their own.
  s.grid = {2, 2, 4};
  EXPECT_EQ(*std::move(*make_draft(o))->token_order(s),
            (std::vector<int>{0, 1, 2, 4, 5, 6, 3, 7, 8, 9, 10, 12, 13, 14, 11, 15}));
  s.grid = {};
  EXPECT_NE(std::move(*make_draft(o))->token_order(s).status().message().find("token grid"),
            std::string::npos);
}

TEST(XAttention, KeepsTheAntidiagonalMass) {
  XAttentionOptions o;
  o.tau = 0.5;
  o.block_q = o.block_kv = 64;
  auto strategy = std::move(*make_xattention(o));
  const SequenceInfo s = sequence(1000, 64);
  const Built b = build(*strategy, s);
  const int n = 16, d = s.head_dim;
  for (int h = 0; h < s.heads; ++h) {
    std::vector<double> q, k;
    for (int t = 0; t < s.tokens; ++t) {
      for (int c = 0; c < d; ++c) {
        q.push_back(double(b.q[size_t((t * s.heads + h) * d + c)]));
        k.push_back(double(b.k[size_t((t * s.heads + h) * d + c)]));
      }
    }
    const auto mass =
        reference::antidiagonal_mass(s.tokens, d, 8, 64, 64, q, k, 1 / (std::sqrt(double(d)) * 8));
    for (int i = 1; i < n; ++i) {
      std::vector<double> row(mass.begin() + i * n, mass.begin() + (i + 1) * n);
      double sum = 0;
      for (const double m : row) sum += m;
      for (double& m : row) m /= sum;
      const auto keep = reference::keep_cdf_ge(row, o.tau);
      for (int j = 1; j < n; ++j) EXPECT_EQ(b.symbols.s(0, h, i, j), keep[size_t(j)] != 0);
    }
  }
  EXPECT_LT(b.symbols.counts().pair_density(), 0.7);
}

TEST(MaskSchedule, RebuildsAfterTheWarmUp) {
  VsaOptions o;
  o.schedule = {10, 50, 2, 1, true};
  auto strategy = std::move(*make_vsa(o));
  ASSERT_TRUE(strategy->begin_run(run_of(sequence(640, 64), 10, 2)).ok());
  std::string seen;
  for (int step = 0; step < 10; ++step) {
    const StepContext c{step, 10, -1};
    const bool full = strategy->begin_step(c) == StepKind::kFull;
    const LayerAction a = strategy->layer_action(c, 1, 0);
    EXPECT_EQ(strategy->layer_action(c, 0, 0), LayerAction::kDense);  // dense_layers = 1
    EXPECT_EQ(full, a == LayerAction::kDense);
    seen += full ? 'F' : a == LayerAction::kRebuild ? 'R' : '-';
  }
  EXPECT_EQ(seen, "FFR-R-R-RF");  // 10 of 50 warm-up steps are 2 of 10
}

}  // namespace
}  // namespace flashomni

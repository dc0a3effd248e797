// SPDX-License-Identifier: Apache-2.0
//
// Row scores that need no text, and the thresholds that follow measured errors.
#include <gtest/gtest.h>

#include <cmath>

#include "reference/pooling.h"
#include "reference/row_scores.h"
#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

struct Outputs {
  std::vector<float> fresh, before;
  BuildContext context;

  explicit Outputs(const SequenceInfo& s) {
    Rng rng(5);
    const size_t n = size_t(s.tokens) * size_t(s.heads) * size_t(s.head_dim);
    for (size_t i = 0; i < n; ++i) {
      fresh.push_back(static_cast<float>(rng.normal()));
      // Later tokens change more.
      before.push_back(fresh.back() + float(i) / float(n) * static_cast<float>(rng.normal()));
    }
    auto view = [&](std::vector<float>& x) {
      return TensorView::contiguous(x.data(), DType::kF32, {1, s.tokens, s.heads, s.head_dim});
    };
    context.attention = view(fresh);
    context.previous = context.forecast = view(before);
  }
};

std::vector<double> widen(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

FlashOmniOptions options(const std::string& score) {
  FlashOmniOptions o;
  o.row_score = score;
  o.tau_q = 0.4;
  o.tau_kv = 0;
  o.ramp = 0;
  o.S_q = 0;
  return o;
}

std::vector<double> of_head(const std::vector<double>& x, int h, int n) {
  return {x.begin() + h * n, x.begin() + (h + 1) * n};
}

// The paper's score needs text: without it no row is cached, and no memory is held for any.
TEST(TextFree, NothingIsKeptForRowsThatNothingScores) {
  for (const char* score : {"text", "column_mass", "change"}) {
    for (const int text : {0, 64}) {
      FlashOmniOptions o;
      o.row_score = score;
      auto strategy = std::move(*make_flashomni(o));
      RunInfo run{.steps = 20, .layers = 1};
      run.sequence = sequence(1000, text);
      ASSERT_TRUE(strategy->begin_run(run).ok());
      const CacheSpec spec = strategy->cache_spec();
      const bool caches = text > 0 || std::string(score) != "text";
      EXPECT_EQ(spec.features, caches) << score << ", text " << text;
      EXPECT_EQ(spec.degrade, caches) << score << ", text " << text;
      EXPECT_EQ(spec.refresh_full_from >= 0, caches) << score << ", text " << text;
    }
  }
}

TEST(TextFree, ColumnMassCachesTheLeastReadRows) {
  auto strategy = std::move(*make_flashomni(options("column_mass")));
  const SequenceInfo s = sequence(1000, 0);
  const Built b = build(*strategy, s);
  const int n = 16;
  const auto q = reference::pool<double>(1, s.tokens, 2, 16, 64, widen(b.q), {});
  const auto k = reference::pool<double>(1, s.tokens, 2, 16, 64, widen(b.k), {});
  const auto scores = reference::block_scores<double>(2, n, n, 16, q.mean, k.mean, 0.25);
  const auto mass = reference::column_mass({1, 2, n, n, 64, 64}, scores);
  for (int h = 0; h < 2; ++h) {
    const auto want = reference::select_rows(of_head(mass, h, n), 0.4, {}, {});
    for (int i = 0; i < n; ++i) EXPECT_EQ(b.symbols.c(0, h, i), want[size_t(i)] != 0);
  }
  EXPECT_LT(b.symbols.counts().row_density(), 0.8);
  EXPECT_EQ(strategy->dense_reason(), "");
}

TEST(TextFree, ChangeAndForecastErrorCacheTheCalmRows) {
  const SequenceInfo s = sequence(1000, 0);
  Outputs outputs(s);
  for (const std::string score : {"change", "forecast_error"}) {
    auto strategy = std::move(*make_flashomni(options(score)));
    const Built b = build(*strategy, s, 25, 1, outputs.context);
    const auto change = reference::block_change(1000, 2, 16, 64, score == "change",
                                                widen(outputs.before), widen(outputs.fresh));
    for (int h = 0; h < 2; ++h) {
      const auto want = reference::select_rows(of_head(change, h, 16), 0.4, {}, {});
      for (int i = 0; i < 16; ++i) EXPECT_EQ(b.symbols.c(0, h, i), want[size_t(i)] != 0);
      EXPECT_FALSE(b.symbols.c(0, h, 0));
      EXPECT_TRUE(b.symbols.c(0, h, 14));
    }
    // Nothing is known at the first refresh.
    const SymbolCounts first = build(*strategy, s).symbols.counts();
    EXPECT_EQ(first.active_rows, first.rows);
    EXPECT_TRUE(strategy->cache_spec().measure_forecast);
  }
}

TEST(TextFree, UnknownScoresAreNamed) {
  EXPECT_NE(make_flashomni(options("entropy")).status().message().find("column_mass"),
            std::string::npos);
  FlashOmniOptions o = options("forecast_error");
  o.residual = true;
  EXPECT_FALSE(make_flashomni(o).ok());
}

AdaptiveOptions adaptive_options() {
  AdaptiveOptions o;
  o.quality = 0.5;
  o.error_budget = 0.8;  // 0.2 at quality 0.5
  o.order = 1;
  o.schedule = {3, 2, 0, true};  // Updates 2 (1 + 2/4) = 3 steps apart
  return o;
}

TEST(Adaptive, SpendsTheBudgetOnTheRowsThatCostLeast) {
  auto strategy = std::move(*make_flashomni_adaptive(adaptive_options()));
  const SequenceInfo s = sequence(1000, 64);
  Outputs outputs(s);
  // An error of 0.2 over two steps at distance 1: squared distances 1 and 4 average 2.5, so 0.5 is
  // expected, of which the budget is two fifths.
  struct Fed : public Strategy {
    Strategy& inner;
    double error;
    Fed(Strategy& i, double e) : inner(i), error(e) {}
    const char* name() const override { return "fed"; }
    Status begin_run(const RunInfo& run) override {
      const Status status = inner.begin_run(run);
      inner.feedback({2, 50, 2}, 0, 0, 1, error);
      return status;
    }
    int block_q() const override { return inner.block_q(); }
    int block_kv() const override { return inner.block_kv(); }
    CacheSpec cache_spec() const override { return inner.cache_spec(); }
    size_t scratch_bytes(const SequenceInfo& q) const override { return inner.scratch_bytes(q); }
    StepKind begin_step(const StepContext& c) override { return inner.begin_step(c); }
    Status build(const BuildContext& c, SymbolsView out) override { return inner.build(c, out); }
  } fed(*strategy, 0.2);
  const Built b = build(fed, s, 25, 1, outputs.context);
  const auto error =
      reference::block_change(1000, 2, 16, 64, false, widen(outputs.before), widen(outputs.fresh));
  for (int h = 0; h < 2; ++h) {
    const auto want = reference::select_rows(of_head(error, h, 16), 0.4, {0, 1}, {});
    for (int i = 0; i < 16; ++i) EXPECT_EQ(b.symbols.c(0, h, i), want[size_t(i)] != 0) << i;
  }
}

TEST(Adaptive, CalmLayersAreReusedWhole) {
  auto strategy = std::move(*make_flashomni_adaptive(adaptive_options()));
  ASSERT_TRUE(strategy->begin_run(run_of(sequence(1000, 64), 20, 2)).ok());
  // Budget 0.2, margin 2: an expected error below 0.1, measured two steps ahead (factor 2.5 / 4).
  strategy->feedback({5, 20, 5}, 0, 0, 2, 0.15);
  strategy->feedback({5, 20, 5}, 1, 0, 2, 0.17);
  EXPECT_EQ(strategy->layer_action({6, 20, 5}, 0, 0), LayerAction::kReuse);
  EXPECT_EQ(strategy->layer_action({6, 20, 5}, 1, 0), LayerAction::kFollow);
  // Updates compute, and the decision is not for ever.
  EXPECT_EQ(strategy->layer_action({8, 20, 5}, 0, 0), LayerAction::kFollow);
  strategy->feedback({8, 20, 8}, 0, 0, 3, 0.9);
  EXPECT_EQ(strategy->layer_action({9, 20, 8}, 0, 0), LayerAction::kFollow);
}

TEST(Adaptive, QualityOneIsDense) {
  AdaptiveOptions o = adaptive_options();
  o.quality = 1;
  auto strategy = std::move(*make_flashomni_adaptive(o));
  const SequenceInfo s = sequence(500, 64);
  const SymbolCounts c = build(*strategy, s).symbols.counts();
  EXPECT_EQ(c.active_pairs, c.pairs);
  EXPECT_NE(strategy->dense_reason(), "");
}

}  // namespace
}  // namespace flashomni

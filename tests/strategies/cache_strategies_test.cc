// SPDX-License-Identifier: Apache-2.0
//
// When the strategies that reuse whole outputs compute, by hand.
#include <gtest/gtest.h>

#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

// One letter a step: computed and stored U, dense D, reused r.
std::string actions(Strategy& s, int steps, int layer = 0, int layers = 2) {
  EXPECT_TRUE(s.begin_run(run_of(sequence(128, 0), steps, layers)).ok());
  std::string out;
  for (int step = 0; step < steps; ++step) {
    const StepContext c{step, steps, -1};
    const StepKind kind = s.begin_step(c);
    const LayerAction a = s.layer_action(c, layer, 0);
    if (a == LayerAction::kReuse || (a == LayerAction::kFollow && kind == StepKind::kDispatch)) {
      out += 'r';
    } else {
      const bool update =
          a == LayerAction::kUpdate || (a == LayerAction::kFollow && kind == StepKind::kUpdate);
      out += update ? 'U' : 'D';
    }
  }
  return out;
}

TEST(Fora, ComputesEveryThirdStep) {
  EXPECT_EQ(actions(**make_fora({}), 8), "UrrUrrUr");
}

TEST(TaylorSeer, WarmsUpThenComputesEverySixthStep) {
  TaylorSeerOptions o;
  o.order = 2;
  auto s = std::move(*make_taylorseer(o));
  EXPECT_EQ(actions(*s, 16), "DDUrrrrrUrrrrrUr");
  const CacheSpec c = s->cache_spec();
  EXPECT_EQ(c.degrade_order, 2);
  EXPECT_EQ(c.refresh_full_from, 0);  // all three warm-up steps, for two differences
  EXPECT_FALSE(c.symbols);
}

TEST(TeaCache, SumsTheRescaledChange) {
  TeaCacheOptions o;
  o.coefficients = "none";
  o.threshold = 0.5;
  auto s = std::move(*make_teacache(o));
  ASSERT_TRUE(s->begin_run(run_of(sequence(128, 0), 10)).ok());
  const double changes[] = {-1, 0.2, 0.2, 0.2, 0.4, 0.2, 0.0, 0.1, 0.1, 0.0};
  // Sums: -, .2, .4, .6 compute, .4, .6 compute, 0, .1, .2, last computes.
  const bool skips[] = {false, true, true, false, true, false, true, true, true, false};
  for (int t = 0; t < 10; ++t) EXPECT_EQ(s->skip_model({t, 10, -1}, changes[t]), skips[t]) << t;
}

TEST(TeaCache, RescalesByThePublishedPolynomial) {
  TeaCacheOptions o;  // FLUX, threshold .25: p(0) = .264 is already above it
  auto s = std::move(*make_teacache(o));
  ASSERT_TRUE(s->begin_run(run_of(sequence(128, 0), 10)).ok());
  EXPECT_FALSE(s->skip_model({1, 10, -1}, 0.0));
  // p(.1) = .0498652 - .2837816 + .5585544 - .3820214 + .2642309 = .2068
  EXPECT_TRUE(s->skip_model({2, 10, -1}, 0.1));
  EXPECT_FALSE(s->skip_model({3, 10, -1}, 0.1));
  // Negative values add nothing: the Wan 14B polynomial at 0 is -13.
  o.coefficients = "wan_t2v_14b";
  auto wan = std::move(*make_teacache(o));
  ASSERT_TRUE(wan->begin_run(run_of(sequence(128, 0), 10)).ok());
  EXPECT_TRUE(wan->skip_model({1, 10, -1}, 0.0));
  o.coefficients = "sd3";
  EXPECT_NE(make_teacache(o).status().message().find("hunyuan_video"), std::string::npos);
}

TEST(FirstBlock, SkipsWhileTheChangeIsSmall) {
  FirstBlockOptions o;
  o.threshold = 0.1;
  o.warmup = 2;
  o.schedule_steps = 0;
  o.max_consecutive = 2;
  auto s = std::move(*make_first_block(o));
  ASSERT_TRUE(s->begin_run(run_of(sequence(128, 0), 9)).ok());
  const double changes[] = {-1, 0.01, 0.01, 0.05, 0.05, 0.05, 0.1, 0.05, 0.0};
  // Warm-up, warm-up, two skips, the limit, one skip, not below .1, one skip, the last step.
  const bool skips[] = {false, false, true, true, false, true, false, true, false};
  for (int t = 0; t < 9; ++t) EXPECT_EQ(s->skip_model({t, 9, -1}, changes[t]), skips[t]) << t;
  EXPECT_EQ(s->skip_spec().prefix, 1);
}

TEST(Pab, EveryKindOfLayerHasItsRange) {
  PabOptions o;
  o.from = 0.2;
  o.to = 0.8;
  o.ranges = "blocks.1=3";
  auto s = std::move(*make_pab(o));
  EXPECT_EQ(actions(*s, 10, 0), "DDUrUrUrDD");
  EXPECT_EQ(actions(*s, 10, 1), "DDUrrUrrDD");
  EXPECT_EQ(s->dense_reason(), "");
  // Everything a broadcast leaves out.
  PabOptions two;
  auto plain = std::move(*make_pab(two));
  const SymbolCounts c = build(*plain, sequence(200, 64)).symbols.counts();
  EXPECT_EQ(c.active_rows, 0);
  o.ranges = "attn=2";
  auto unknown = std::move(*make_pab(o));
  EXPECT_NE(unknown->begin_run(run_of(sequence(128, 0))).message().find("blocks.0"),
            std::string::npos);
  o.ranges = "blocks.1=x";
  EXPECT_NE(make_pab(o).status().message().find("blocks.1=x"), std::string::npos);
}

}  // namespace
}  // namespace flashomni

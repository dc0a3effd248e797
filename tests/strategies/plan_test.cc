// SPDX-License-Identifier: Apache-2.0
//
// Plans: their text form, what layers do under them, and the symbols they become.
#include <gtest/gtest.h>

#include "strategies/plan_table.h"
#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

using strategies::HeadAction;
using strategies::parse_plan;
using strategies::PlanTable;

TEST(PlanText, LaterRulesLieOnTop) {
  const auto rules =
      parse_plan("window 8; steps 2-3, layers 1, heads 0+2-3: cached;steps 4: alias");
  ASSERT_TRUE(rules.ok()) << rules.status().message();
  PlanTable t(6, 2, 4);
  ASSERT_TRUE(t.apply(*rules, 0).ok());
  EXPECT_EQ(t.at(0, 0, 0), (strategies::HeadPlan{HeadAction::kWindow, 8}));
  EXPECT_EQ(t.at(2, 1, 0).action, HeadAction::kCached);
  EXPECT_EQ(t.at(2, 1, 1).action, HeadAction::kWindow);
  EXPECT_EQ(t.at(3, 1, 3).action, HeadAction::kCached);
  EXPECT_EQ(t.at(3, 0, 3).action, HeadAction::kWindow);
  EXPECT_TRUE(t.alias(4, 1));
  EXPECT_FALSE(t.alias(3, 1));
}

TEST(PlanText, StepsScaleToTheRun) {
  PlanTable t(20, 1, 1);
  ASSERT_TRUE(t.apply(*parse_plan("steps 10-19: cached"), 50).ok());
  // Steps 10 to 19 of 50 are 4 to 7 of 20.
  for (int step = 0; step < 20; ++step) {
    EXPECT_EQ(t.at(step, 0, 0).action == HeadAction::kCached, step >= 4 && step < 8) << step;
  }
}

TEST(PlanText, MistakesAreNamed) {
  auto message = [](const char* text) { return parse_plan(text).status().message(); };
  EXPECT_NE(message("steps 1: sleep").find("'sleep' is no action"), std::string::npos);
  EXPECT_NE(message("blocks 1: full").find("'blocks' selects nothing"), std::string::npos);
  EXPECT_NE(message("steps 5-2: full").find("'5-2'"), std::string::npos);
  EXPECT_NE(message("steps: full").find("no selection"), std::string::npos);
  EXPECT_NE(message("window -3").find("no action"), std::string::npos);
  EXPECT_NE(message("heads 1: alias").find("whole layers"), std::string::npos);
  PlanTable t(4, 2, 2);
  EXPECT_NE(t.apply(*parse_plan("layers 7: cached"), 0).message().find("2 layers of 2 heads"),
            std::string::npos);
}

// One letter a step: U update, D dense, C cached, A aliased, R rebuilt, s symbols in force. Builds
// where the engine would.
std::string actions(Strategy& s, const SequenceInfo& sequence, int steps, int stream = 0,
                    std::vector<SymbolCounts>* counts = nullptr) {
  RunInfo run = run_of(sequence, steps, 1);
  run.streams = 2;
  const Status begun = s.begin_run(run);
  EXPECT_TRUE(begun.ok()) << begun.message();
  auto backend = std::move(*make_backend("cpu"));
  EXPECT_TRUE(s.prepare(*backend, {}).ok());
  SymbolGeometry g;
  g.heads = sequence.heads;
  g.q_tokens = g.kv_tokens = sequence.tokens;
  g.block_q = s.block_q();
  g.block_kv = s.block_kv();
  SparseSymbols symbols(g);
  std::string out;
  for (int step = 0; step < steps; ++step) {
    BuildContext c;
    c.backend = backend.get();
    c.step = {step, steps, -1};
    c.stream = stream;
    c.sequence = sequence;
    const StepKind kind = s.begin_step(c.step);
    LayerAction a = s.layer_action(c.step, 0, stream);
    if (a == LayerAction::kFollow && kind == StepKind::kUpdate) a = LayerAction::kUpdate;
    if (a == LayerAction::kFollow && kind == StepKind::kFull) a = LayerAction::kDense;
    out += a == LayerAction::kUpdate    ? 'U'
           : a == LayerAction::kDense   ? 'D'
           : a == LayerAction::kCached  ? 'C'
           : a == LayerAction::kAlias   ? 'A'
           : a == LayerAction::kRebuild ? 'R'
                                        : 's';
    if (a == LayerAction::kUpdate || a == LayerAction::kRebuild) {
      EXPECT_TRUE(s.build(c, symbols.view()).ok());
      EXPECT_TRUE(symbols.validate().ok());
    }
    if (counts) counts->push_back(symbols.counts());
  }
  return out;
}

TEST(DitFastAttn, RepeatsFullWindowShared) {
  DitFastAttnOptions o;
  o.warmup = 2;
  o.schedule_steps = 0;
  o.window = 0;
  o.block_q = o.block_kv = 32;
  auto s = std::move(*make_ditfastattn(o));
  const SequenceInfo seq = sequence(320, 0);
  std::vector<SymbolCounts> counts;
  // The Update already builds the window's symbols, since its residual belongs to them.
  EXPECT_EQ(actions(*s, seq, 9, 0, &counts), "DUsCUsCUs");
  EXPECT_DOUBLE_EQ(counts[2].pair_density(), 0.1);  // the diagonal of ten blocks
  const CacheSpec c = s->cache_spec();
  EXPECT_TRUE(c.residual);
  EXPECT_FALSE(c.project_cached);
  o.alias = true;
  auto aliased = std::move(*make_ditfastattn(o));
  EXPECT_EQ(actions(*aliased, seq, 9, 0), "DUsCUsCUs");
  EXPECT_EQ(actions(*aliased, seq, 9, 1), "DUsCAsCAs");
}

TEST(DitFastAttnV2, HeadsHaveTheirOwn) {
  DitFastAttnV2Options o;
  o.cached_heads = 0.25;
  o.window_heads = 0.5;
  o.window = 0;
  o.warmup = 1;
  o.interval = 3;
  o.schedule_steps = 0;
  o.block_q = o.block_kv = 32;
  auto s = std::move(*make_ditfastattn_v2(o));
  std::vector<SymbolCounts> counts;
  EXPECT_EQ(actions(*s, sequence(320, 32, 4), 7, 0, &counts), "UssUssD");
  // Of four heads one is cached, two keep the diagonal, the text's row and its column, one is full.
  EXPECT_EQ(counts[1].active_rows, 30);
  EXPECT_EQ(counts[1].active_pairs, 2 * (10 + 9 * 2) + 100);
}

TEST(HeadCache, TakesTurns) {
  HeadCacheOptions o;
  o.cached_heads = 0.5;
  o.warmup = 1;
  o.interval = 2;
  o.schedule_steps = 0;
  o.block_q = o.block_kv = 32;
  auto s = std::move(*make_head_cache(o));
  const SequenceInfo seq = sequence(64, 0, 4);
  EXPECT_EQ(actions(*s, seq, 6), "UsUsUs");
  PlanOptions explicit_plan;
  explicit_plan.plan = "steps 1+5, heads 0-1: cached; steps 3, heads 2-3: cached";
  explicit_plan.block_q = explicit_plan.block_kv = 32;
  explicit_plan.residual = false;
  auto p = std::move(*make_plan(explicit_plan));
  std::vector<SymbolCounts> a, b;
  EXPECT_EQ(actions(*s, seq, 6, 0, &a), actions(*p, seq, 6, 0, &b));
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].active_rows, b[i].active_rows);
  EXPECT_EQ(a[1].active_rows, 4);
}

TEST(Plan, NothingIsReusedBeforeItIsThere) {
  PlanOptions o;
  o.plan = "cached";
  o.block_q = o.block_kv = 32;
  auto s = std::move(*make_plan(o));
  EXPECT_EQ(actions(*s, sequence(64, 0), 4), "UCCC");
  o.plan = "";
  auto idle = std::move(*make_plan(o));
  EXPECT_EQ(actions(*idle, sequence(64, 0), 3), "DDD");
  EXPECT_NE(idle->dense_reason(), "");
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Editing: what sparse attention may do to the tokens of a given picture (strategies 1.7). Their
// rows may be cached like any vision row; their key/value blocks are never skipped.
#include <gtest/gtest.h>

#include "flashomni/backend.h"
#include "flashomni/engine.h"
#include "models/flux/transformer.h"
#include "tests/models/fixture.h"

namespace flashomni {
namespace {

using Int = int64_t;

// 9 text, 17 x 16 noisy and 17 x 16 reference tokens in blocks of 32: the text ends in block 0, the
// reference begins in block 8 (9 + 272 = 281 = 8 * 32 + 25) and ends in block 17, the last.
constexpr int kText = 9, kRows = 17, kCols = 16, kNoisy = kRows * kCols;
constexpr int kBlocks = 18, kFirstReference = 8;
constexpr int kSteps = 5, kUpdate = 1;

flux::RunSetup edit_setup() {
  flux::RunSetup setup;
  for (int t = 0; t < kSteps; ++t) setup.sigmas.push_back(1.f - float(t) / kSteps);
  setup.text_tokens = kText;
  setup.ids.assign(kText, PositionId{0, 0, 0});
  for (int picture = 0; picture < 2; ++picture) {
    for (int y = 0; y < kRows; ++y) {
      for (int x = 0; x < kCols; ++x) setup.ids.push_back({float(picture), float(y), float(x)});
    }
  }
  setup.output_tokens = kNoisy;
  setup.grid = {2, kRows, kCols};
  setup.guidance = 2.5f;
  std::vector<float> text(kText * 24), pooled(12);
  for (size_t i = 0; i < text.size(); ++i) text[i] = std::sin(0.7f * float(i));
  for (size_t i = 0; i < pooled.size(); ++i) pooled[i] = std::cos(0.3f * float(i));
  setup.streams.push_back({text, pooled});
  return setup;
}

struct Edit {
  std::vector<float> latents;
  std::vector<SymbolSnapshot> symbols;
  RunReport report;
};

Edit run_edit(const std::string& strategy, const OptionMap& options, bool keep_reference) {
  const auto backend = std::move(*make_backend("cpu", {.threads = 2}));
  auto model = flux::FluxTransformer::load(*backend, fixture_folder("flux_dev"));
  EXPECT_TRUE(model.ok()) << model.status().message();
  Engine engine(*backend, std::move(*make_strategy(strategy, options)),
                {.keep_reference = keep_reference, .keep_symbols = true});
  const Status begun = (*model)->begin_run(engine, edit_setup());
  EXPECT_TRUE(begun.ok()) << begun.message();
  std::vector<float> x(2 * kNoisy * 4), v(kNoisy * 4);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.1f * float(i) + 1e-3f * float(i % 77));
  for (int step = 0; step < kSteps; ++step) {
    EXPECT_TRUE(engine.begin_step(step).ok());
    engine.begin_stream(0);
    const Status s = (*model)->forward(engine, step, 0, view_of(x, {1, 2 * kNoisy, 4}),
                                       view_of(v, {1, kNoisy, 4}));
    EXPECT_TRUE(s.ok()) << s.message();
    for (size_t i = 0; i < v.size(); ++i) x[i] -= v[i] / kSteps;
    EXPECT_TRUE(engine.end_step().ok());
  }
  EXPECT_TRUE(engine.end_run().ok());
  return {x, engine.snapshots(), engine.report()};
}

OptionMap with_blocks(OptionMap options) {
  options.insert({{"block_q", Int{32}}, {"block_kv", Int{32}}});
  return options;
}

// Whether block j holds reference tokens.
bool is_reference(int j) {
  return j >= kFirstReference;
}

struct Case {
  const char* strategy;
  OptionMap options;
  bool caches;
};

class ReferenceTokens : public testing::TestWithParam<Case> {};

// The strategy's choice with the reference columns put back: nothing else changes, and without the
// engine's rule it would really skip some of them.
TEST_P(ReferenceTokens, KeysAndValuesAreKept) {
  const Case& p = GetParam();
  const Edit kept = run_edit(p.strategy, p.options, true);
  const Edit free = run_edit(p.strategy, p.options, false);
  ASSERT_EQ(kept.symbols.size(), free.symbols.size());
  ASSERT_FALSE(kept.symbols.empty());
  int skipped = 0, cached = 0, elsewhere = 0;
  for (size_t n = 0; n < kept.symbols.size(); ++n) {
    const SparseSymbols &a = kept.symbols[n].symbols, &b = free.symbols[n].symbols;
    ASSERT_EQ(a.geometry().num_kv_blocks(), kBlocks);
    EXPECT_TRUE(a.validate().ok()) << a.validate().message();
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < kBlocks; ++i) {
        for (int j = kFirstReference; j < kBlocks; ++j) {
          EXPECT_EQ(a.s(0, h, i, j), a.c(0, h, i)) << "row " << i << ", block " << j;
        }
        cached += is_reference(i) && !a.c(0, h, i);
      }
    }
    // Until the first Update both runs see the same queries and keys.
    if (kept.symbols[n].step > kUpdate || kept.symbols[n].layer > 0) continue;
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < kBlocks; ++i) {
        EXPECT_EQ(a.c(0, h, i), b.c(0, h, i));
        for (int j = 0; j < kBlocks; ++j) {
          if (!is_reference(j)) {
            EXPECT_EQ(a.s(0, h, i, j), b.s(0, h, i, j));
          }
          if (!b.c(0, h, i) || b.s(0, h, i, j)) continue;
          ++(is_reference(j) ? skipped : elsewhere);
        }
      }
    }
  }
  EXPECT_GT(skipped, 0) << "the strategy skips no reference block anyway";
  EXPECT_GT(elsewhere, 0) << "the strategy skips no other block";
  EXPECT_EQ(cached > 0, p.caches) << "rows of the reference may be cached";
  EXPECT_GT(kept.report.attention_sparsity, 0);
  EXPECT_LT(kept.report.attention_sparsity, free.report.attention_sparsity);
}

// Thresholds so small that nothing is dropped: every sparse path runs, and no bit changes.
TEST(ReferenceTokensZeroSparsity, IsDenseBitForBit) {
  const OptionMap tiny = with_blocks({{"tau_q", 1e-30},
                                      {"tau_kv", 1e-30},
                                      {"ramp", 0.0},
                                      {"S_q", 0.0},
                                      {"warmup", Int{2}},
                                      {"interval", Int{2}},
                                      {"schedule_steps", Int{0}}});
  const Edit sparse = run_edit("flashomni", tiny, true);
  EXPECT_EQ(sparse.report.steps[2].kind, StepKind::kDispatch);
  EXPECT_EQ(sparse.report.attention_sparsity, 0);
  EXPECT_EQ(sparse.latents, run_edit("dense", {}, true).latents);
}

INSTANTIATE_TEST_SUITE_P(
    Strategies, ReferenceTokens,
    testing::Values(Case{"flashomni",
                         with_blocks({{"tau_q", 0.5},
                                      {"tau_kv", 0.5},
                                      {"ramp", 0.0},
                                      {"S_q", 0.0},
                                      {"order", Int{1}},
                                      {"warmup", Int{2}},
                                      {"interval", Int{2}},
                                      {"schedule_steps", Int{0}}}),
                         true},
                    Case{"random",
                         with_blocks({{"cached", 0.3},
                                      {"skipped", 0.5},
                                      {"warmup", Int{2}},
                                      {"interval", Int{2}},
                                      {"schedule_steps", Int{0}}}),
                         true},
                    Case{"window", with_blocks({{"window", Int{64}}, {"warmup", Int{2}}}), false},
                    Case{"sparge",
                         with_blocks({{"mode", std::string("topk")},
                                      {"topk", 0.3},
                                      {"warmup", Int{1}},
                                      {"schedule_steps", Int{0}}}),
                         false}),
    [](const auto& p) { return std::string(p.param.strategy); });

}  // namespace
}  // namespace flashomni

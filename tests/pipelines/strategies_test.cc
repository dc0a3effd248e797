// SPDX-License-Identifier: Apache-2.0
//
// Every registered strategy on the bundled model, end to end: it runs, leaves work out, says what
// ran, and the picture is still the picture.
#include "flashomni/strategies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "pipelines/metrics.h"
#include "pipelines/text_to_image.h"
#include "tests/testkit/sanitized.h"
#include "tests/testkit/strategy_options.h"

namespace flashomni {
namespace {

using namespace std::string_literals;

struct World {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<TextToImagePipeline> pipeline;
};

World& world() {
  static World w = [] {
    World made;
    made.backend = std::move(*make_backend("cpu"));
    auto p =
        TextToImagePipeline::load(*made.backend, std::string(FO_SOURCE_DIR) + "/models/emoji-flux");
    EXPECT_TRUE(p.ok()) << p.status().message();
    made.pipeline = std::move(*p);
    return made;
  }();
  return w;
}

// 64 text and 8 x 8 picture tokens, 8 steps.
TextToImageRequest small_request() {
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 5;
  r.steps = 8;
  r.width = r.height = 64;
  return r;
}

Result<TextToImageResult> run(const std::string& name, const OptionMap& options,
                              const EngineOptions& engine = {}) {
  FO_ASSIGN_OR_RETURN(auto strategy, make_strategy(name, options));
  return world().pipeline->generate(small_request(), std::move(strategy), engine);
}

const TextToImageResult& dense_run() {
  static const TextToImageResult r = *run("dense", {});
  return r;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
  }
  return worst;
}

class StrategyRun : public ::testing::TestWithParam<std::string> {};

// 16 x 16 picture tokens: large enough that patterns leave something out beside the text.
TEST_P(StrategyRun, DrawsThePictureWithLessWork) {
  SKIP_WHERE_SANITIZED("pictures");
  TextToImageRequest request = small_request();
  request.width = request.height = 128;
  static const Image dense = world().pipeline->generate(request, nullptr)->image;
  auto strategy = make_strategy(GetParam(), testkit::small_options(*find_strategy(GetParam()), 32));
  ASSERT_TRUE(strategy.ok()) << strategy.status().message();
  const auto result = world().pipeline->generate(request, std::move(*strategy));
  ASSERT_TRUE(result.ok()) << result.status().message();
  const RunReport& r = result->report;
  for (const Fallback& f : r.fallbacks) ADD_FAILURE() << f.where << ": " << f.reason;
  EXPECT_GT(r.flops_skipped, 0.001 * r.flops_dense);
  EXPECT_LT(r.flops_skipped, r.flops_dense);
  EXPECT_GT(r.attention_sparsity, 0.02);
  const double psnr = *psnr_db(result->image, dense);
  EXPECT_GT(psnr, GetParam() == "random" ? 5.0 : 14.0);
  std::printf("%s: attention %.3f, FLOPs %.3f, %.1f dB\n", GetParam().c_str(), r.attention_sparsity,
              r.flops_skipped / r.flops_dense, psnr);
}

TEST_P(StrategyRun, OfNothingLeftOutIsDenseBitForBit) {
  // The operations that make symbols are watched one by one in tests/cpu, and symbols drive the
  // same kernels whichever strategy they come from.
  if (GetParam() != "flashomni") SKIP_WHERE_THREAD_SANITIZED("pictures of other strategies");
  const auto r = run(GetParam(), testkit::zero_options(*find_strategy(GetParam()), 32));
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->report.attention_sparsity, 0.0);
  EXPECT_EQ(r->latents, dense_run().latents);
}

// Also of strategies that watch or change something before their first sparse step.
TEST_P(StrategyRun, FirstStepsComeFromADenseRunBitForBit) {
  if (GetParam() != "flashomni") SKIP_WHERE_THREAD_SANITIZED("pictures of other strategies");
  TextToImageRequest request = small_request();
  request.keep_steps = 6;
  static const auto known = world().pipeline->generate(request, nullptr)->kept_steps;
  ASSERT_EQ(known->latents.size(), 6u);
  ASSERT_EQ(known->seconds.size(), 6u);
  const StrategyInfo info = *find_strategy(GetParam());
  OptionMap options = testkit::small_options(info, 32);
  const bool has_warmup =
      std::ranges::find(info.options, "warmup", &OptionInfo::name) != info.options.end();
  if (has_warmup) options["warmup"] = int64_t{5};
  const auto alone = run(GetParam(), options);
  ASSERT_TRUE(alone.ok()) << alone.status().message();
  request = small_request();
  request.known_steps = known;
  const auto shared =
      world().pipeline->generate(request, std::move(*make_strategy(GetParam(), options)));
  ASSERT_TRUE(shared.ok()) << shared.status().message();
  EXPECT_EQ(shared->latents, alone->latents);
  const RunReport &a = alone->report, &b = shared->report;
  EXPECT_EQ(a.plain_steps, b.plain_steps);
  EXPECT_EQ(a.flops_skipped, b.flops_skipped);
  EXPECT_EQ(a.attention_sparsity, b.attention_sparsity);
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (size_t s = 0; s < b.steps.size(); ++s) {
    EXPECT_EQ(a.steps[s].kind, b.steps[s].kind) << s;
  }
  // Of the others the first step already stores or leaves out something, or the tokens lie in
  // another order. flashomni, warm-up 5: the first Update is step 4, whose slope wants the features
  // of step 3.
  static const std::map<std::string, int> kPlainSteps = {
      {"block_diagonal", 4}, {"flashomni", 3}, {"flashomni-adaptive", 2},
      {"fora", 4},           {"pab", 2},       {"radial", 5},
      {"random", 4},         {"sparge", 5},    {"taylorseer", 3},
      {"window", 4},         {"xattention", 5}};
  const auto plain = kPlainSteps.find(GetParam());
  ASSERT_EQ(b.plain_steps, plain == kPlainSteps.end() ? 0 : plain->second);
  for (int s = 0; s < b.plain_steps; ++s) {
    EXPECT_EQ(b.steps[size_t(s)].seconds, known->seconds[size_t(s)]) << s;
  }
}

TEST(KnownSteps, OfAnotherSizeAreRefused) {
  TextToImageRequest request = small_request();
  request.steps = 2;
  auto other = std::make_shared<DenseSteps>();
  other->latents.emplace_back(7);
  other->seconds.push_back(1);
  request.known_steps = other;
  const auto r = world().pipeline->generate(request, nullptr);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.status().message().find("known latents of 7 values"), std::string::npos)
      << r.status().message();
}

INSTANTIATE_TEST_SUITE_P(Registry, StrategyRun,
                         ::testing::ValuesIn(testkit::sparse_strategy_names()),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(TokenOrder, ChangesRoundingOnly) {
  SKIP_WHERE_SANITIZED("pictures");
  // Nothing is left out, but the tokens lie in another order throughout the run.
  const auto r = run("vsa", {{"sparsity", 0.0},
                             {"tile_frames", int64_t{1}},
                             {"block_q", int64_t{32}},
                             {"block_kv", int64_t{32}}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_LT(largest_difference(r->latents, dense_run().latents), 1e-3);
}

// Tiles of 3 x 5 tokens, which divide neither side of the picture; blocks end with them.
OptionMap ragged_options(const std::string& name, int64_t warmup) {
  OptionMap o = {{"ragged", true},
                 {"block_q", int64_t{32}},
                 {"block_kv", int64_t{32}},
                 {"schedule_steps", int64_t{0}},
                 {"warmup", warmup}};
  const char* side = name == "draft" ? "patch" : "tile";
  o[side + "_rows"s] = int64_t{3};
  o[side + "_cols"s] = int64_t{5};
  if (name != "draft") o["tile_frames"] = int64_t{1};
  return o;
}

TEST(RaggedBlocks, OfNothingLeftOutAreDenseBitForBit) {
  SKIP_WHERE_THREAD_SANITIZED("pictures");
  for (const std::string name : {"sta", "vsa", "draft"}) {
    // All steps dense, but with the tokens in the order of the tiles.
    const auto dense = run(name, ragged_options(name, 1000));
    ASSERT_TRUE(dense.ok()) << dense.status().message();
    OptionMap all = ragged_options(name, 1);
    if (name == "sta") {
      all["window_rows"] = all["window_cols"] = int64_t{1001};
    } else {
      all["sparsity"] = 0.0;
    }
    const auto sparse = run(name, all, {.keep_symbols = true});
    ASSERT_TRUE(sparse.ok()) << sparse.status().message();
    EXPECT_EQ(sparse->report.attention_sparsity, 0.0) << name;
    EXPECT_EQ(sparse->latents, dense->latents) << name;
    ASSERT_FALSE(sparse->snapshots.empty());
    // 64 tokens of text, and 3 x 2 tiles of 3, 3 and 2 rows by 5 and 3 columns.
    EXPECT_TRUE(std::ranges::equal(sparse->snapshots[0].symbols.starts(),
                                   std::vector<int>{0, 32, 64, 79, 88, 103, 112, 122, 128}));
  }
}

TEST(RaggedBlocks, DrawThePictureWithLessWork) {
  SKIP_WHERE_SANITIZED("pictures");
  TextToImageRequest request = small_request();
  request.width = request.height = 128;
  const Image dense = world().pipeline->generate(request, nullptr)->image;
  for (const std::string name : {"sta", "vsa", "draft"}) {
    auto strategy = make_strategy(name, ragged_options(name, 2));
    const auto result = world().pipeline->generate(request, std::move(*strategy));
    ASSERT_TRUE(result.ok()) << result.status().message();
    for (const Fallback& f : result->report.fallbacks) ADD_FAILURE() << f.where << ": " << f.reason;
    EXPECT_GT(result->report.attention_sparsity, 0.1) << name;
    EXPECT_GT(result->report.flops_skipped, 0) << name;
    EXPECT_GT(*psnr_db(result->image, dense), 12) << name;
  }
}

// The reference's tiles are blocks of their own, whose keys are never left out.
TEST(RaggedBlocks, KeepTheReference) {
  SKIP_WHERE_THREAD_SANITIZED("pictures");
  TextToImageRequest edit = small_request();
  edit.steps = 3;
  edit.reference = dense_run().image;
  OptionMap options = ragged_options("draft", 1);
  options["sparsity"] = 1.0;
  const auto r = world().pipeline->generate(edit, std::move(*make_strategy("draft", options)),
                                            {.keep_symbols = true});
  ASSERT_TRUE(r.ok()) << r.status().message();
  ASSERT_FALSE(r->snapshots.empty());
  const SparseSymbols& s = r->snapshots[0].symbols;
  ASSERT_EQ(s.geometry().ragged_blocks, 2 + 6 + 6);
  EXPECT_EQ(s.starts()[8], 128);
  for (int i = 2; i < 14; ++i) {
    for (int j = 8; j < 14; ++j) EXPECT_TRUE(s.s(0, 0, i, j)) << i << "," << j;
  }
  EXPECT_LT(s.counts().pair_density(), 1.0);
}

TEST(TokenOrder, TilesOfOneFrameWorkWithAReference) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  TextToImageRequest edit = small_request();
  edit.steps = 3;
  edit.reference = dense_run().image;
  auto draw = [&](int64_t frames) {
    auto s = make_strategy("vsa", {{"tile_frames", frames}, {"sparsity", 0.0}});
    return world().pipeline->generate(edit, std::move(*s));
  };
  const auto plain = world().pipeline->generate(edit, nullptr);
  const auto tiled = draw(1);
  ASSERT_TRUE(tiled.ok()) << tiled.status().message();
  EXPECT_LT(largest_difference(tiled->latents, plain->latents), 1e-3);
  EXPECT_NE(draw(2).status().message().find("reference"), std::string::npos);
}

TEST(StepSkip, SkippedStepsAreReported) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const auto r = run("teacache", {{"coefficients", "none"s}, {"threshold", 1.0}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  const auto& steps = r->report.steps;
  EXPECT_EQ(steps.front().kind, StepKind::kFull);
  EXPECT_EQ(steps.back().kind, StepKind::kFull);
  int skipped = 0;
  for (const StepRecord& s : steps) {
    const bool skip = s.kind == StepKind::kSkipModel;
    skipped += skip;
    for (const LayerRecord& l : s.layers) EXPECT_EQ(l.kind == LayerKind::kSkipped, skip);
  }
  EXPECT_GT(skipped, 0);
  EXPECT_DOUBLE_EQ(r->report.skipped_share, skipped / 8.0);
  // Every step but the first has a change to decide by.
  EXPECT_EQ(r->report.host_waits, 7);
  EXPECT_EQ(dense_run().report.host_waits, 0);
  EXPECT_GT(r->report.ledger.residuals, 0u);
}

TEST(StepSkip, AThresholdOfZeroIsDenseBitForBit) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  for (const char* name : {"teacache", "first_block"}) {
    const auto r = run(name, {{"threshold", 0.0}});
    ASSERT_TRUE(r.ok()) << r.status().message();
    EXPECT_EQ(r->latents, dense_run().latents);
    EXPECT_FALSE(r->report.fallbacks.empty());
  }
}

TEST(StepSkip, TheFirstLayersAlwaysRun) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const auto r = run("first_block", {{"threshold", 1e9},
                                     {"first_layers", int64_t{2}},
                                     {"last_layers", int64_t{1}},
                                     {"warmup", int64_t{2}},
                                     {"schedule_steps", int64_t{0}}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  const StepRecord& s = r->report.steps[4];
  EXPECT_EQ(s.kind, StepKind::kSkipModel);
  for (size_t i = 0; i < s.layers.size(); ++i) {
    const size_t layer = i % 7;
    EXPECT_EQ(s.layers[i].kind == LayerKind::kSkipped, layer >= 2 && layer < 6) << layer;
  }
  EXPECT_NE(
      run("first_block", {{"first_layers", int64_t{7}}}).status().message().find("of 7 layers"),
      std::string::npos);
}

TEST(SoftmaxSkip, IsCountedAndOffByDefault) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const OptionMap options = {{"topk", 0.6}, {"block_q", int64_t{32}}, {"block_kv", int64_t{32}}};
  const auto off = run("sparge", options);
  ASSERT_TRUE(off.ok()) << off.status().message();
  EXPECT_EQ(off->report.softmax_skip_share, 0.0);
  auto with = [&](double pv) {
    OptionMap o = options;
    o["pv"] = pv;
    return *run("sparge", o);
  };
  const TextToImageResult far = with(1e6);
  EXPECT_EQ(far.latents, off->latents) << "a threshold that nothing falls below changes no bit";
  EXPECT_EQ(far.report.softmax_skip_share, 0.0);
  const TextToImageResult near = with(2);
  EXPECT_GT(near.report.softmax_skip_share, 0.01);
  EXPECT_LT(near.report.softmax_skip_share, 0.9);
  EXPECT_NE(near.latents, off->latents);
  EXPECT_GT(*psnr_db(near.image, off->image), 20.0);
  EXPECT_GE(near.report.softmax_skip_share, with(4).report.softmax_skip_share);
}

TEST(Pab, ABroadcastComputesNoKeys) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  // Attention is reused in every other step inside the range, MLPs never.
  const auto r = run("pab", {{"from", 0.25}, {"to", 0.8}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  // Steps 2..5: computed, reused, computed, reused.
  EXPECT_DOUBLE_EQ(r->report.attention_sparsity, 2.0 / 8);
  EXPECT_DOUBLE_EQ(r->report.gemm_q_sparsity, 2.0 / 8);
  EXPECT_DOUBLE_EQ(r->report.gemm_o_sparsity, 2.0 / 8);
  EXPECT_EQ(r->report.degraded_share, 0.0);
}

// What a window leaves out is remembered at the Update and added again.
TEST(Residual, MakesUpForSkippedBlocks) {
  SKIP_WHERE_THREAD_SANITIZED("pictures");
  const OptionMap plain = {{"window", int64_t{0}},    {"block_q", int64_t{32}},
                           {"block_kv", int64_t{32}}, {"warmup", int64_t{2}},
                           {"interval", int64_t{2}},  {"protect_text", false}};
  OptionMap added = plain, forecast = plain;
  added["residual"] = forecast["residual"] = true;
  forecast["order"] = int64_t{1};
  const auto without = run("window", plain), with = run("window", added),
             ahead = run("window", forecast);
  ASSERT_TRUE(with.ok()) << with.status().message();
  const double a = *psnr_db(without->image, dense_run().image);
  const double b = *psnr_db(with->image, dense_run().image);
  const double c = *psnr_db(ahead->image, dense_run().image);
  EXPECT_GT(b, a + 2);
  EXPECT_GT(c, a + 2);  // a higher order is not always better over so few Updates
  EXPECT_EQ(with->report.attention_sparsity, without->report.attention_sparsity);
}

TEST(Residual, OfNothingSkippedIsDenseBitForBit) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const auto r = run("window", {{"window", int64_t{1000}},
                                {"residual", true},
                                {"warmup", int64_t{2}},
                                {"interval", int64_t{2}}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->latents, dense_run().latents);
}

// The same residual, once through bias planes and once on the attention output.
TEST(Residual, ProjectedAndPlannedAgree) {
  SKIP_WHERE_THREAD_SANITIZED("pictures");
  const OptionMap blocks = {{"block_q", int64_t{32}}, {"block_kv", int64_t{32}}};
  OptionMap projected = blocks, planned = blocks;
  projected["window"] = int64_t{0};
  projected["residual"] = true;
  projected["warmup"] = int64_t{2};
  projected["interval"] = int64_t{3};
  // Updates at steps 1 and 4, full at 0 and 7.
  planned["plan"] = "steps 2-3+5-6: window 0"s;
  const auto a = run("window", projected), b = run("plan", planned);
  ASSERT_TRUE(a.ok() && b.ok()) << b.status().message();
  EXPECT_LT(largest_difference(a->latents, b->latents), 2e-3);
  EXPECT_EQ(a->report.attention_sparsity, b->report.attention_sparsity);
}

TEST(Plan, OfEverythingFullIsDenseBitForBit) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const auto r = run("plan", {{"plan", "full"s}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->latents, dense_run().latents);
}

TEST(Plan, AnAliasTakesTheFirstStreamsOutput) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const auto r = run("plan", {{"plan", "steps 2-6, layers 1: alias"s}});
  ASSERT_TRUE(r.ok()) << r.status().message();
  const auto& layers = r->report.steps[3].layers;
  EXPECT_EQ(layers[7 + 1].kind, LayerKind::kAliased);
  EXPECT_EQ(layers[7 + 2].kind, LayerKind::kDense);
  EXPECT_NE(layers[1].kind, LayerKind::kAliased);
  EXPECT_DOUBLE_EQ(r->report.attention_sparsity, 5.0 / (8 * 14));
  // Without guidance there is nothing to share, and the report says so.
  TextToImageRequest alone = small_request();
  alone.guidance = 1;
  const auto one =
      world().pipeline->generate(alone, std::move(*make_strategy("plan", {{"plan", "alias"s}})));
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(one->report.attention_sparsity, 0.0);
}

TEST(TextFreeScores, RunOnTheModel) {
  SKIP_WHERE_THREAD_SANITIZED("pictures");
  for (const std::string score : {"column_mass", "change", "forecast_error"}) {
    OptionMap o = testkit::small_options(*find_strategy("flashomni"), 32);
    o["row_score"] = score;
    o["tau_kv"] = 0.0;
    const auto r = run("flashomni", o);
    ASSERT_TRUE(r.ok()) << r.status().message();
    EXPECT_GT(r->report.cached_sparsity, 0.1) << score;
    EXPECT_GT(*psnr_db(r->image, dense_run().image), 14.0) << score;
  }
}

TEST(Adaptive, QualityIsMonotone) {
  SKIP_WHERE_SANITIZED("pictures");
  double last_flops = 1, last_psnr = 0;
  for (const double quality : {0.0, 0.3, 0.6, 0.85, 1.0}) {
    double flops = 0, psnr = 0;
    const std::vector<std::string> prompts = {"3d red apple", "flat ambulance"};
    for (const std::string& prompt : prompts) {
      TextToImageRequest request = small_request();
      request.prompt = prompt;
      request.steps = 16;
      static std::map<std::string, TextToImageResult> dense_runs;
      if (!dense_runs.count(prompt)) {
        dense_runs[prompt] = *world().pipeline->generate(request, nullptr);
      }
      const TextToImageResult* dense = &dense_runs[prompt];
      auto strategy = make_strategy(
          "flashomni-adaptive",
          {{"quality", quality}, {"block_q", int64_t{32}}, {"block_kv", int64_t{32}}});
      const auto r = world().pipeline->generate(request, std::move(*strategy));
      ASSERT_TRUE(r.ok()) << r.status().message();
      flops += r->report.flops_skipped / r->report.flops_dense / double(prompts.size());
      // Equal pictures have infinite PSNR.
      const double db = std::min(100.0, *psnr_db(r->image, dense->image));
      psnr += db / double(prompts.size());
      if (quality == 1.0) {
        EXPECT_EQ(r->latents, dense->latents);
      }
    }
    std::printf("quality %.2f: %.3f of the FLOPs skipped, %.2f dB\n", quality, flops, psnr);
    EXPECT_LT(flops, last_flops) << quality;
    EXPECT_GT(psnr, last_psnr) << quality;
    last_flops = flops;
    last_psnr = psnr;
  }
}

TEST(TaylorSeer, ForecastsBeatReuse) {
  SKIP_WHERE_SANITIZED("pictures");
  const OptionMap schedule = {{"warmup", int64_t{3}}, {"interval", int64_t{2}}};
  OptionMap first = schedule, second = schedule;
  first["order"] = int64_t{0};
  second["order"] = int64_t{1};
  const double reuse = *psnr_db(run("taylorseer", first)->image, dense_run().image);
  const double forecast = *psnr_db(run("taylorseer", second)->image, dense_run().image);
  EXPECT_GT(forecast, reuse);
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// The cache of whole runs under budgets: what was planned is what was allocated, nothing exceeds
// the budget, and what does not fit runs dense, bit for bit, and says so.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/profiling_backend.h"
#include "flashomni/strategies.h"
#include "pipelines/text_to_image.h"
#include "tests/testkit/sanitized.h"

namespace flashomni {
namespace {

using namespace std::string_literals;

TextToImagePipeline& pipeline() {
  static const std::unique_ptr<Backend> backend = std::move(*make_backend("cpu"));
  static const std::unique_ptr<TextToImagePipeline> made = std::move(
      *TextToImagePipeline::load(*backend, std::string(FO_SOURCE_DIR) + "/models/emoji-flux"));
  return *made;
}

// 64 text and 8 x 8 picture tokens.
TextToImageResult draw(const std::string& name, OptionMap options, size_t budget = kNoCacheBudget) {
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 5;
  r.steps = 8;
  r.width = r.height = 64;
  auto strategy = make_strategy(name, options);
  EXPECT_TRUE(strategy.ok()) << strategy.status().message();
  auto result = pipeline().generate(r, std::move(*strategy), {.cache_budget = budget});
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? std::move(*result) : TextToImageResult{};
}

struct Case {
  std::string strategy;
  OptionMap options;
};
const OptionMap kBlocks = {{"block_q", int64_t{32}}, {"block_kv", int64_t{32}}};

OptionMap with_blocks(OptionMap options) {
  options.insert(kBlocks.begin(), kBlocks.end());
  return options;
}

// One of each way to keep something.
std::vector<Case> cases() {
  const OptionMap schedule = {
      {"warmup", int64_t{2}}, {"interval", int64_t{3}}, {"schedule_steps", int64_t{0}}};
  OptionMap random = with_blocks(schedule), residual = random, projected = random;
  random["cached"] = random["skipped"] = .4;
  random["degraded"] = .5;
  random["order"] = int64_t{1};
  random["degrade_order"] = int64_t{1};
  random["protect_text"] = false;
  residual.erase("schedule_steps");
  residual["window"] = int64_t{0};
  residual["residual"] = true;
  projected = residual;
  projected["order"] = int64_t{1};
  OptionMap seer = {{"warmup", int64_t{3}}, {"interval", int64_t{2}}, {"order", int64_t{2}}};
  return {{"random", random},
          {"window", residual},
          {"window", projected},
          {"taylorseer", seer},
          {"plan", with_blocks({{"plan", "steps 2-3+5, heads 0-2: window 0; steps 4: alias"s}})},
          {"teacache", {{"coefficients", "none"s}, {"threshold", 1.0}}},
          {"flashomni-adaptive", with_blocks({{"quality", .3}})}};
}

TEST(CacheBudgetRuns, ThePlanIsWhatIsAllocated) {
  SKIP_WHERE_SANITIZED("several pictures");
  for (const Case& c : cases()) {
    const TextToImageResult r = draw(c.strategy, c.options);
    const CacheBudget& b = r.report.cache_budget;
    EXPECT_GT(b.wanted, 0u) << c.strategy;
    EXPECT_EQ(b.planned, b.wanted) << c.strategy;
    EXPECT_EQ(b.planned, r.report.peak_cache_bytes) << c.strategy;
    EXPECT_TRUE(b.left_out.empty() && !b.skip_left_out) << c.strategy;
  }
}

TEST(CacheBudgetRuns, NothingExceedsTheBudgetAndEveryLayerLeftOutIsNamed) {
  SKIP_WHERE_SANITIZED("many pictures");
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.strategy);
    const TextToImageResult whole = draw(c.strategy, c.options);
    const size_t wanted = whole.report.peak_cache_bytes;
    // Exactly as much as is wanted changes nothing.
    EXPECT_EQ(draw(c.strategy, c.options, wanted).latents, whole.latents);
    for (const double share : {0.6, 0.15}) {
      const auto limit = static_cast<size_t>(share * double(wanted));
      const RunReport r = draw(c.strategy, c.options, limit).report;
      const CacheBudget& b = r.cache_budget;
      EXPECT_EQ(b.limit, limit);
      EXPECT_EQ(b.wanted, wanted);
      EXPECT_LE(r.peak_cache_bytes, limit) << share;
      EXPECT_EQ(r.peak_cache_bytes, b.planned) << share;
      EXPECT_LE(b.order, b.order_wanted);
      EXPECT_LE(b.module_order, b.module_order_wanted);
      for (const int layer : b.left_out) {
        const std::string where = "layer " + r.layer_names[size_t(layer)];
        EXPECT_TRUE(std::any_of(r.fallbacks.begin(), r.fallbacks.end(), [&](const Fallback& f) {
          return f.where == where && f.reason.find("budget of ") != std::string::npos;
        })) << where;
        for (const StepRecord& step : r.steps) {
          for (size_t stream = 0; stream < 2; ++stream) {
            const LayerKind kind = step.layers[stream * r.layer_names.size() + size_t(layer)].kind;
            EXPECT_TRUE(kind == LayerKind::kDense || kind == LayerKind::kSkipped)
                << layer_kind_name(kind);
          }
        }
      }
      EXPECT_TRUE(b.order < b.order_wanted || b.module_order < b.module_order_wanted ||
                  b.skip_order < b.skip_order_wanted || b.skip_left_out || !b.left_out.empty());
    }
  }
}

TEST(CacheBudgetRuns, LowerOrdersAreThoseAskedForOutright) {
  SKIP_WHERE_SANITIZED("several pictures");
  Case c = cases()[0];
  const RunReport whole = draw(c.strategy, c.options).report;
  const TextToImageResult squeezed = draw(c.strategy, c.options, whole.peak_cache_bytes * 3 / 4);
  ASSERT_EQ(squeezed.report.cache_budget.order, 0);
  ASSERT_TRUE(squeezed.report.cache_budget.left_out.empty());
  c.options["order"] = int64_t{0};
  c.options["degrade_order"] = int64_t{squeezed.report.cache_budget.module_order};
  EXPECT_EQ(squeezed.latents, draw(c.strategy, c.options).latents);
}

// A device with so much memory left.
class SmallDevice : public ProfilingBackend {
 public:
  explicit SmallDevice(Backend& inner) : ProfilingBackend(inner) { set_enabled(false); }
  size_t free = 0;
  size_t free_memory_bytes() const override { return free; }
};

TEST(CacheBudgetRuns, ACacheThatDoesNotFitTheDeviceIsRefusedBeforeTheFirstStep) {
  const std::unique_ptr<Backend> cpu = std::move(*make_backend("cpu"));
  SmallDevice device(*cpu);
  auto model = TextToImagePipeline::load(device, std::string(FO_SOURCE_DIR) + "/models/emoji-flux");
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Case c = cases()[0];
  const auto draw_here = [&](size_t budget) {
    TextToImageRequest r;
    r.prompt = "3d red apple";
    r.steps = 8;
    r.width = r.height = 64;
    return (*model)->generate(r, std::move(*make_strategy(c.strategy, c.options)),
                              {.cache_budget = budget}, [](const StepProgress&) {
                                ADD_FAILURE() << "a step ran";
                                return false;
                              });
  };
  constexpr size_t kSpare = size_t{256} << 20;
  const size_t wanted = draw(c.strategy, c.options).report.peak_cache_bytes;
  device.free = kSpare + wanted - 1;
  const Status refused = draw_here(kNoCacheBudget).status();
  EXPECT_EQ(refused.code(), StatusCode::kOutOfMemory);
  for (const char* part : {"strategy random", "MiB", "--cache-budget"}) {
    EXPECT_NE(refused.message().find(part), std::string::npos) << refused.message();
  }
}

TEST(CacheBudgetRuns, ABudgetMakesItFitTheDevice) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const std::unique_ptr<Backend> cpu = std::move(*make_backend("cpu"));
  SmallDevice device(*cpu);
  auto model = TextToImagePipeline::load(device, std::string(FO_SOURCE_DIR) + "/models/emoji-flux");
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Case c = cases()[0];
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.steps = 8;
  r.width = r.height = 64;
  const size_t wanted = draw(c.strategy, c.options).report.peak_cache_bytes;
  device.free = (size_t{256} << 20) + wanted / 2;
  const auto fits = (*model)->generate(r, std::move(*make_strategy(c.strategy, c.options)),
                                       {.cache_budget = wanted / 2});
  ASSERT_TRUE(fits.ok()) << fits.status().message();
  EXPECT_LE(fits->report.peak_cache_bytes, wanted / 2);
  EXPECT_EQ(fits->report.free_bytes, device.free);
}

TEST(CacheBudgetRuns, WithoutRoomEverythingIsDenseBitForBit) {
  SKIP_WHERE_SANITIZED("several pictures");
  const TextToImageResult dense = draw("dense", {});
  for (const Case& c : cases()) {
    for (const size_t limit : {size_t{0}, size_t{100}}) {
      const TextToImageResult r = draw(c.strategy, c.options, limit);
      EXPECT_EQ(r.latents, dense.latents) << c.strategy;
      EXPECT_EQ(r.report.peak_cache_bytes, 0u) << c.strategy;
      EXPECT_EQ(r.report.flops_skipped, 0) << c.strategy;
      const CacheBudget& b = r.report.cache_budget;
      EXPECT_TRUE(b.left_out.size() == r.report.layer_names.size() || b.skip_left_out)
          << c.strategy;
    }
  }
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Whole runs with CUDA graphs beside the same runs without: equal bits, and graphs that really ran.
#include <gtest/gtest.h>

#include "flashomni/strategies.h"
#include "pipelines/bare_transformer.h"
#include "pipelines/text_to_image.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/small_bare.h"

namespace flashomni {
namespace {

using testkit::CudaPathTest;

class GraphRunsTest : public CudaPathTest {
 protected:
  std::string why(const GraphUse& g) {
    std::string text;
    for (const Fallback& f : g.reasons) {
      text += f.where + ": " + f.reason + " (" + std::to_string(f.count) + ")\n";
    }
    return text;
  }

  void expect_equal_bits(const std::string& strategy, const OptionMap& options) {
    SCOPED_TRACE(strategy);
    auto pipeline =
        TextToImagePipeline::load(backend(), std::string(FO_SOURCE_DIR) + "/models/emoji-flux");
    ASSERT_TRUE(pipeline.ok()) << pipeline.status().to_string();
    TextToImageResult results[2];
    for (const bool graphs : {false, true}) {
      TextToImageRequest r;
      r.prompt = "3d red apple";
      r.seed = 3;
      r.steps = 20;
      auto made = make_strategy(strategy, options);
      ASSERT_TRUE(made.ok()) << made.status().to_string();
      auto drawn = (*pipeline)->generate(r, std::move(*made), {.graphs = graphs});
      ASSERT_TRUE(drawn.ok()) << drawn.status().to_string();
      results[graphs] = std::move(*drawn);
    }
    EXPECT_EQ(results[0].report.graphs.replayed, 0);
    const GraphUse& g = results[1].report.graphs;
    EXPECT_GT(g.captured, 0) << why(g);
    EXPECT_GT(g.replayed, g.captured) << why(g);
    EXPECT_EQ(results[1].latents, results[0].latents);
    std::printf("%s: %.2f ms with graphs (%d of %d evaluations), %.2f ms without\n",
                strategy.c_str(), 1e3 * results[1].seconds, int(g.replayed), int(g.evaluations),
                1e3 * results[0].seconds);
  }
};
INSTANTIATE_ON_ALL_PATHS(GraphRunsTest);

TEST_P(GraphRunsTest, Dense) {
  expect_equal_bits("dense", {});
}

TEST_P(GraphRunsTest, FlashOmniBalanced) {
  expect_equal_bits("flashomni", *strategy_preset("flashomni", "balanced", "emoji_flux"));
}

TEST_P(GraphRunsTest, RandomSymbolsAndDegradedLayers) {
  OptionMap o = {{"cached", .4},         {"skipped", .3},
                 {"order", int64_t{1}},  {"schedule_steps", int64_t{0}},
                 {"warmup", int64_t{3}}, {"interval", int64_t{2}},
                 {"protect_text", false}};
  expect_equal_bits("random", o);
  o["degraded"] = .5;
  o["degrade_order"] = int64_t{1};
  expect_equal_bits("random", o);
}

TEST_P(GraphRunsTest, BareTransformers) {
  for (const std::string& name : bare_transformer_names()) {
    SCOPED_TRACE(name);
    auto model = load_bare_transformer(backend(), testkit::small_bare_options(name));
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    const RandomOptions options = testkit::small_bare_symbols();
    std::vector<float> latents[2];
    for (const bool graphs : {false, true}) {
      auto run = (*model)->run(12, std::move(*make_random(options)), {.graphs = graphs}, {});
      ASSERT_TRUE(run.ok()) << run.status().to_string();
      latents[graphs] = run->latents;
      EXPECT_EQ(run->report.graphs.replayed > 0, graphs) << why(run->report.graphs);
    }
    EXPECT_EQ(latents[1], latents[0]);
  }
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Whole runs on a backend that replays: the bits of the run without, and as many replays as there
// are evaluations that repeat.
#include <gtest/gtest.h>

#include "core/graph_backend.h"
#include "flashomni/strategies.h"
#include "pipelines/text_to_image.h"
#include "tests/testkit/replaying_backend.h"
#include "tests/testkit/sanitized.h"

namespace flashomni {
namespace {

const std::string kModel = std::string(FO_SOURCE_DIR) + "/models/emoji-flux";

constexpr int kSteps = 14, kFewSteps = 8, kStreams = 2;

TextToImageResult draw(Backend& backend, const std::string& strategy, const OptionMap& options,
                       int steps, const EngineOptions& engine = {}) {
  auto pipeline = TextToImagePipeline::load(backend, kModel);
  EXPECT_TRUE(pipeline.ok()) << pipeline.status().message();
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 5;
  r.steps = steps;
  r.width = r.height = 64;
  auto made = make_strategy(strategy, options);
  EXPECT_TRUE(made.ok()) << made.status().message();
  auto result = (*pipeline)->generate(r, std::move(*made), engine);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? std::move(*result) : TextToImageResult{};
}

class GraphRuns : public ::testing::Test {
 protected:
  GraphRuns() : cpu_(std::move(*make_backend("cpu"))) {
    auto replaying = std::make_unique<testkit::ReplayingBackend>(*cpu_);
    device_ = replaying.get();
    graphs_ = std::make_unique<GraphBackend>(std::move(replaying));
  }
  // The report of the run with graphs, whose bits are those without.
  RunReport equal_bits(const std::string& strategy, const OptionMap& options, int steps = kSteps) {
    const TextToImageResult plain = draw(*cpu_, strategy, options, steps);
    const TextToImageResult replayed = draw(*graphs_, strategy, options, steps);
    EXPECT_EQ(replayed.latents, plain.latents) << strategy;
    EXPECT_EQ(plain.report.graphs.replayed, 0);
    EXPECT_DOUBLE_EQ(replayed.report.attention_sparsity, plain.report.attention_sparsity);
    return replayed.report;
  }

  std::unique_ptr<Backend> cpu_;
  testkit::ReplayingBackend* device_;  // owned by graphs_
  std::unique_ptr<GraphBackend> graphs_;
};

TEST_F(GraphRuns, DenseStepsAreAllAlike) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  const GraphUse g = equal_bits("dense", {}).graphs;
  EXPECT_EQ(g.evaluations, kSteps * kStreams);
  EXPECT_EQ(g.captured, kStreams);
  EXPECT_EQ(g.replayed, (kSteps - 1) * kStreams);
  ASSERT_EQ(g.reasons.size(), 1u);
  EXPECT_EQ(g.reasons[0].reason, "the first of its kind");
  // The embedding and 7 layers, not copies of text and modulations.
  EXPECT_GT(device_->operations, 7u * 5);
}

// Full, full, Update, 2 Dispatch, Update, 2 Dispatch, ..., full.
OptionMap random_options() {
  return {{"cached", .4},           {"skipped", .3},           {"order", int64_t{1}},
          {"block_q", int64_t{32}}, {"block_kv", int64_t{32}}, {"schedule_steps", int64_t{0}},
          {"warmup", int64_t{3}},   {"interval", int64_t{2}},  {"protect_text", false}};
}

TEST_F(GraphRuns, DispatchStepsOfOneDistanceAreAlike) {
  SKIP_WHERE_SANITIZED("several pictures");
  const RunReport r = equal_bits("random", random_options());
  int updates = 0, dispatches = 0;
  for (const StepRecord& s : r.steps) {
    updates += s.kind == StepKind::kUpdate;
    dispatches += s.kind == StepKind::kDispatch;
  }
  ASSERT_GT(dispatches, 4);
  const GraphUse& g = r.graphs;
  int rebuilt = 0;
  for (const Fallback& f : g.reasons) rebuilt += f.where == "update step" ? f.count : 0;
  EXPECT_EQ(rebuilt, updates * kStreams);
  // The second Update adds a Taylor factor; from then on each distance has one graph.
  EXPECT_GT(g.replayed, kStreams * dispatches / 3);
  EXPECT_LT(g.captured, g.replayed);
}

TEST_F(GraphRuns, DegradedLayersReplay) {
  SKIP_WHERE_SANITIZED("several pictures");
  OptionMap options = random_options();
  options["degraded"] = .5;
  options["degrade_order"] = int64_t{1};
  const RunReport r = equal_bits("random", options);
  EXPECT_GT(r.degraded_share, 0.1);
  EXPECT_GT(r.graphs.replayed, 0);
}

TEST_F(GraphRuns, FlashOmniAndOthersKeepTheirBits) {
  SKIP_WHERE_SANITIZED("many pictures");
  const OptionMap blocks = {{"block_q", int64_t{32}}, {"block_kv", int64_t{32}}};
  OptionMap balanced = *strategy_preset("flashomni", "balanced", "emoji_flux");
  for (const auto& [name, value] : blocks) balanced[name] = value;
  EXPECT_GT(equal_bits("flashomni", balanced).graphs.replayed, 0);
  OptionMap added = blocks;
  added["window"] = int64_t{0};
  added["residual"] = true;
  EXPECT_GT(equal_bits("window", added, kFewSteps).graphs.replayed, 0);
  // The change of the first layer's input is read back in every step.
  const OptionMap tea = {{"coefficients", std::string("none")}, {"threshold", 1.0}};
  const RunReport skipping = equal_bits("teacache", tea, kFewSteps);
  bool waited = false;
  for (const Fallback& f : skipping.graphs.reasons) {
    waited = waited || f.reason.find("graphs do not hold") != std::string::npos;
  }
  EXPECT_TRUE(waited);
  equal_bits("sparge", {{"topk", .6}, {"pv", 2.0}}, kFewSteps);
}

TEST_F(GraphRuns, CanBeSwitchedOff) {
  const TextToImageResult r = draw(*graphs_, "dense", {}, 2, {.graphs = false});
  EXPECT_EQ(r.report.graphs.replayed, 0);
  EXPECT_EQ(r.report.graphs.reasons[0].reason, "graphs are switched off");
  EXPECT_EQ(device_->captures, 0);
}

}  // namespace
}  // namespace flashomni

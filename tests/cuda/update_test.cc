// SPDX-License-Identifier: Apache-2.0
//
// What a GPU does at an Update in forms of its own (UpdateBackend) gives the bits that the same run
// has without them.
#include <gtest/gtest.h>

#include "core/profiling_backend.h"
#include "flashomni/strategies.h"
#include "pipelines/bare_transformer.h"
#include "pipelines/text_to_image.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/small_bare.h"

namespace flashomni {
namespace {

// Every layer's plan, counts and features by Backend's own operations.
class PlainUpdates final : public ProfilingBackend {
 public:
  explicit PlainUpdates(Backend& inner) : ProfilingBackend(inner) { set_enabled(false); }
  bool offers_update_work() const override { return false; }
};

class UpdateTest : public testkit::CudaPathTest {
 protected:
  void SetUp() override {
    CudaPathTest::SetUp();
    if (!IsSkipped()) plain_.emplace(backend());
  }
  std::optional<PlainUpdates> plain_;
};
INSTANTIATE_ON_ALL_PATHS(UpdateTest);

void expect_equal_reports(const RunReport& a, const RunReport& b) {
  EXPECT_EQ(a.attention_sparsity, b.attention_sparsity);
  EXPECT_EQ(a.cached_sparsity, b.cached_sparsity);
  EXPECT_EQ(a.flops_skipped, b.flops_skipped);
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (size_t i = 0; i < a.steps.size(); ++i) {
    ASSERT_EQ(a.steps[i].layers.size(), b.steps[i].layers.size());
    for (size_t l = 0; l < a.steps[i].layers.size(); ++l) {
      EXPECT_EQ(a.steps[i].layers[l].counts.active_rows, b.steps[i].layers[l].counts.active_rows);
      EXPECT_EQ(a.steps[i].layers[l].counts.active_pairs, b.steps[i].layers[l].counts.active_pairs);
    }
  }
}

TEST_P(UpdateTest, BareTransformersHaveTheBitsOfPlainUpdates) {
  for (const std::string& name : bare_transformer_names()) {
    const BareTransformerOptions sizes = testkit::small_bare_options(name);
    auto own = load_bare_transformer(backend(), sizes);
    auto plain = load_bare_transformer(*plain_, sizes);
    ASSERT_TRUE(own.ok() && plain.ok());
    for (const int order : {0, 1, 2}) {
      for (const double skipped : {0., .3}) {
        SCOPED_TRACE(name + " order " + std::to_string(order) + " skipped " +
                     std::to_string(skipped));
        RandomOptions options = testkit::small_bare_symbols();
        options.order = order;
        options.skipped = skipped;
        auto a = (*own)->run(12, std::move(*make_random(options)), {}, {});
        auto b = (*plain)->run(12, std::move(*make_random(options)), {}, {});
        ASSERT_TRUE(a.ok() && b.ok());
        EXPECT_EQ(a->latents, b->latents);
        expect_equal_reports(a->report, b->report);
      }
    }
  }
}

// Symbols of queries and keys, and layers that degrade after an Update.
TEST_P(UpdateTest, PicturesHaveTheBitsOfPlainUpdates) {
  const std::string folder = std::string(FO_SOURCE_DIR) + "/models/emoji-flux";
  auto own = TextToImagePipeline::load(backend(), folder);
  auto plain = TextToImagePipeline::load(*plain_, folder);
  ASSERT_TRUE(own.ok() && plain.ok());
  const std::pair<const char*, OptionMap> ways[] = {
      {"flashomni", *strategy_preset("flashomni", "balanced", "emoji_flux")},
      {"flashomni", *strategy_preset("flashomni", "fast", "emoji_flux")},
      {"random",
       {{"cached", .4},
        {"skipped", .3},
        {"order", int64_t{1}},
        {"degraded", .5},
        {"warmup", int64_t{3}},
        {"interval", int64_t{2}},
        {"protect_text", false}}}};
  for (const auto& [strategy, options] : ways) {
    SCOPED_TRACE(strategy);
    TextToImageRequest r;
    r.prompt = "3d red apple";
    r.seed = 3;
    r.steps = 20;
    auto first = make_strategy(strategy, options), second = make_strategy(strategy, options);
    ASSERT_TRUE(first.ok() && second.ok());
    auto a = (*own)->generate(r, std::move(*first));
    auto b = (*plain)->generate(r, std::move(*second));
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(a->latents, b->latents);
    expect_equal_reports(a->report, b->report);
  }
}

}  // namespace
}  // namespace flashomni

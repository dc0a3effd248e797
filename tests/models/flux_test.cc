// SPDX-License-Identifier: Apache-2.0
//
// FLUX.1 against diffusers, block by block: dev (guidance), schnell (none, in shards), Kontext
// (a reference picture's tokens) and checkpoints of 16 bits.
#include <gtest/gtest.h>

#include <functional>

#include "flashomni/backend.h"
#include "models/flux/transformer.h"
#include "tests/models/fixture.h"

namespace flashomni {
namespace {

using flux::FluxTransformer;

constexpr double kTolerance = 1e-5;  // of the standard deviation of what is compared
using Error = std::function<double(const std::vector<float>&, const std::vector<float>&)>;

class Flux : public testing::Test {
 protected:
  Flux() : backend_(std::move(*make_backend("cpu", {.threads = 2}))) {}

  std::unique_ptr<FluxTransformer> load(const std::string& folder) {
    auto model = FluxTransformer::load(*backend_, fixture_folder(folder));
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.ok() ? std::move(*model) : nullptr;
  }

  // Every sample of the recorded batch as a guidance stream, at the step of its own timestep;
  // `output_tokens` leading ones are wanted, all if it is 0.
  void compare(const std::string& folder, const Fixture& fixture, int output_tokens = 0,
               double tolerance = kTolerance, const Error& error = relative_error) {
    const std::unique_ptr<FluxTransformer> model = load(folder);
    ASSERT_NE(model, nullptr);
    EXPECT_TRUE(model->unused_tensors().empty());
    const Recorded latents = fixture["hidden_states"];
    const int64_t batch = latents.shape[0], tokens = latents.shape[1];
    flux::RunSetup setup;
    setup.sigmas = fixture["timestep"].values;
    setup.text_tokens = int(fixture["txt_ids"].shape[0]);
    for (const char* ids : {"txt_ids", "img_ids"}) {
      const std::vector<float> v = fixture[ids].values;
      for (size_t i = 0; i < v.size(); i += 3) setup.ids.push_back({v[i], v[i + 1], v[i + 2]});
    }
    setup.output_tokens = output_tokens ? output_tokens : int(tokens);
    if (fixture.has("guidance")) setup.guidance = fixture["guidance"].values[0];
    for (int64_t b = 0; b < batch; ++b) {
      setup.streams.push_back(
          {fixture["encoder_hidden_states"].sample(b), fixture["pooled_projections"].sample(b)});
    }
    Engine engine(*backend_, nullptr);
    const Status begun = model->begin_run(engine, setup);
    ASSERT_TRUE(begun.ok()) << begun.message();

    for (int b = 0; b < batch; ++b) {
      SCOPED_TRACE("sample " + std::to_string(b));
      TappedStates states;
      model->set_tap([&](const std::string& name, const TensorView& x, const TensorView& text) {
        states[name] = {contents(x), contents(text)};
      });
      ASSERT_TRUE(engine.begin_step(b).ok());
      engine.begin_stream(b);
      std::vector<float> x = latents.sample(b);
      std::vector<float> out(size_t(setup.output_tokens * model->config().output_width()));
      const Status s =
          model->forward(engine, b, b, view_of(x, {1, tokens, model->config().in_channels}),
                         view_of(out, {1, setup.output_tokens, model->config().output_width()}));
      ASSERT_TRUE(s.ok()) << s.message();
      EXPECT_EQ(states.size(), 5u);
      for (const auto& [name, seen] : states) {
        EXPECT_LT(error(seen.first, fixture[name + ".latents"].sample(b)), tolerance) << name;
        EXPECT_LT(error(seen.second, fixture[name + ".text"].sample(b)), tolerance) << name;
      }
      const std::vector<float> wanted = fixture["output"].sample(b, setup.output_tokens);
      EXPECT_LT(error(out, wanted), tolerance);
    }
  }

  std::unique_ptr<Backend> backend_;
};

// A batch of two with its own timesteps, real-valued ids on text and image, odd token counts.
TEST_F(Flux, DevWithGuidanceAndAnyIds) {
  compare("flux_dev", Fixture("flux_dev"));
}

TEST_F(Flux, SchnellInShards) {
  compare("flux_schnell", Fixture("flux_schnell"));
}

TEST_F(Flux, KontextKeepsTheNoiseTokens) {
  compare("flux_dev", Fixture("flux_dev", "kontext.safetensors"), 15);
}

// Against diffusers over the same rounded weights, and near the unrounded model.
TEST_F(Flux, CheckpointsOf16Bits) {
  for (const char* folder : {"flux_dev_bf16", "flux_dev_f16"}) {
    SCOPED_TRACE(folder);
    compare(folder, Fixture(folder));
    compare(folder, Fixture("flux_dev"), 0, 1e-2, rms_error);
  }
}

// A model that reads the wrong ids, timestep or guidance must not pass.
TEST_F(Flux, ComparisonSeesSmallMistakes) {
  const std::unique_ptr<FluxTransformer> model = load("flux_dev");
  ASSERT_NE(model, nullptr);
  const Fixture fixture("flux_dev", "kontext.safetensors");
  auto error = [&](auto&& change) {
    flux::RunSetup setup;
    setup.sigmas = fixture["timestep"].values;
    setup.text_tokens = 7;
    for (const char* ids : {"txt_ids", "img_ids"}) {
      const std::vector<float> v = fixture[ids].values;
      for (size_t i = 0; i < v.size(); i += 3) setup.ids.push_back({v[i], v[i + 1], v[i + 2]});
    }
    setup.output_tokens = 15;
    setup.guidance = 3.5f;
    setup.streams.push_back(
        {fixture["encoder_hidden_states"].sample(0), fixture["pooled_projections"].sample(0)});
    change(setup);
    Engine engine(*backend_, nullptr);
    EXPECT_TRUE(model->begin_run(engine, setup).ok());
    EXPECT_TRUE(engine.begin_step(0).ok());
    engine.begin_stream(0);
    std::vector<float> x = fixture["hidden_states"].sample(0), out(15 * 4);
    EXPECT_TRUE(
        model->forward(engine, 0, 0, view_of(x, {1, 21, 4}), view_of(out, {1, 15, 4})).ok());
    return relative_error(out, fixture["output"].sample(0, 15));
  };
  EXPECT_LT(error([](flux::RunSetup&) {}), kTolerance);
  EXPECT_GT(error([](flux::RunSetup& s) { s.ids.back()[0] = 0; }), 10 * kTolerance);
  EXPECT_GT(error([](flux::RunSetup& s) { s.sigmas[0] = 0.874f; }), 10 * kTolerance);
  EXPECT_GT(error([](flux::RunSetup& s) { s.guidance = 3.501f; }), 10 * kTolerance);
  EXPECT_GT(error([](flux::RunSetup& s) { s.streams[0].pooled[0] += 1e-3f; }), 10 * kTolerance);
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// HunyuanVideo against diffusers, block by block, and what it refuses.
#include <gtest/gtest.h>

#include "flashomni/backend.h"
#include "models/hunyuan_video/transformer.h"
#include "tests/models/changed_checkpoint.h"
#include "tests/models/fixture.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

using hunyuan_video::HunyuanVideoTransformer;
using hunyuan_video::RunSetup;

constexpr double kTolerance = 1e-5;  // of the standard deviation of what is compared

struct Sample {
  RunSetup setup;
  LatentShape shape;
  std::vector<float> tokens;  // input, packed
  int64_t text_tokens = 0;
};

// Sample `index` of a recorded batch as a run whose step `index` has its timestep.
Sample read_sample(const Fixture& fixture, const hunyuan_video::HunyuanVideoConfig& config,
                   int64_t index) {
  Sample s;
  const Recorded latents = fixture["hidden_states"];
  s.shape = {int(latents.shape[1]), int(latents.shape[2]), int(latents.shape[3]),
             int(latents.shape[4])};
  const PatchSize patch = config.patch();
  s.tokens = *latents_to_tokens(latents.sample(index), s.shape, patch);
  s.setup.frames = s.shape.frames / patch.frames;
  s.setup.rows = s.shape.height / patch.height;
  s.setup.cols = s.shape.width / patch.width;

  std::vector<uint8_t> mask;
  for (float m : fixture["encoder_attention_mask"].sample(index)) mask.push_back(m != 0);
  hunyuan_video::Conditioning c;
  c.encoder_hidden_states =
      *hunyuan_video::valid_text(fixture["encoder_hidden_states"].sample(index), mask);
  c.pooled = fixture["pooled_projections"].sample(index);
  s.text_tokens = int64_t(c.encoder_hidden_states.size()) / config.text_embed_dim;
  s.setup.text_tokens = int(s.text_tokens);
  s.setup.streams.push_back(std::move(c));
  for (float t : fixture["timestep"].values) s.setup.sigmas.push_back(t / 1000);
  if (fixture.has("guidance")) s.setup.guidance = fixture["guidance"].values[0] / 1000;
  return s;
}

class HunyuanVideo : public testing::Test {
 protected:
  HunyuanVideo() : backend_(std::move(*make_backend("cpu", {.threads = 2}))) {}

  std::unique_ptr<HunyuanVideoTransformer> load(const std::string& folder) {
    return load_from(fixture_folder(folder));
  }
  std::unique_ptr<HunyuanVideoTransformer> load_from(const std::string& path) {
    auto model = HunyuanVideoTransformer::load(*backend_, path);
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.ok() ? std::move(*model) : nullptr;
  }

  // Runs the steps of `sample` dense; the output of the last one.
  std::vector<float> run(HunyuanVideoTransformer& model, Sample& sample, int64_t steps) {
    Engine engine(*backend_, nullptr);
    Status s = model.begin_run(engine, sample.setup);
    EXPECT_TRUE(s.ok()) << s.message();
    const int64_t n = sample.setup.frames * sample.setup.rows * sample.setup.cols;
    std::vector<float> out(size_t(n * model.config().output_width()));
    for (int step = 0; step < steps && s.ok(); ++step) {
      EXPECT_TRUE(engine.begin_step(step).ok());
      engine.begin_stream(0);
      s = model.forward(engine, step, 0,
                        view_of(sample.tokens, {1, n, model.config().input_width()}),
                        view_of(out, {1, n, model.config().output_width()}));
      EXPECT_TRUE(s.ok()) << s.message();
      EXPECT_TRUE(engine.end_step().ok());
    }
    return out;
  }

  void compare(const std::string& folder) {
    const std::unique_ptr<HunyuanVideoTransformer> model = load(folder);
    ASSERT_NE(model, nullptr);
    EXPECT_TRUE(model->unused_tensors().empty());
    const Fixture fixture(folder);
    const int64_t batch = fixture["timestep"].shape[0];
    for (int64_t b = 0; b < batch; ++b) {
      SCOPED_TRACE("sample " + std::to_string(b));
      Sample sample = read_sample(fixture, model->config(), b);
      TappedStates states;
      model->set_tap([&](const std::string& name, const TensorView& x, const TensorView& text) {
        states[name] = {contents(x), contents(text)};
      });
      const std::vector<float> out = run(*model, sample, b + 1);
      EXPECT_EQ(states.size(), 5u);
      for (const auto& [name, seen] : states) {
        EXPECT_LT(relative_error(seen.first, fixture[name + ".latents"].sample(b)), kTolerance)
            << name;
        EXPECT_LT(
            relative_error(seen.second, fixture[name + ".text"].sample(b, sample.text_tokens)),
            kTolerance)
            << name;
      }
      LatentShape shape = sample.shape;
      shape.channels = model->config().out_channels;
      EXPECT_LT(relative_error(*tokens_to_latents(out, shape, model->config().patch()),
                               fixture["output"].sample(b)),
                kTolerance);
    }
  }

  std::unique_ptr<Backend> backend_;
};

// Two samples of a batch, the second with padded text, each at its own timestep.
TEST_F(HunyuanVideo, MaskedTextBatchOfTwo) {
  compare("hunyuan_video");
}

// Patches of 2x2x2, MLP ratio 3, RoPE base 64, no guidance, fewer output channels, in shards.
TEST_F(HunyuanVideo, PatchesAndShards) {
  compare("hunyuan_video_patches");
}

// Copies of 16 bits, against what diffusers computes with all bits.
TEST_F(HunyuanVideo, CheckpointsOf16Bits) {
  const Fixture fixture("hunyuan_video");
  for (const StoredDType dtype : {StoredDType::kBF16, StoredDType::kF16}) {
    const testkit::TempDir dir;
    put_changed("hunyuan_video", dir.path(), [&](Tensors& t) { round_to(dtype, t); });
    const std::unique_ptr<HunyuanVideoTransformer> model = load_from(dir.path());
    ASSERT_NE(model, nullptr);
    for (int b = 0; b < 2; ++b) {
      Sample sample = read_sample(fixture, model->config(), b);
      const std::vector<float> out = run(*model, sample, b + 1);
      const double error = rms_error(*tokens_to_latents(out, sample.shape, model->config().patch()),
                                     fixture["output"].sample(b));
      EXPECT_LT(error, 1e-2);
      EXPECT_GT(error, 1e-5) << "the weights were rounded";
    }
  }
}

TEST_F(HunyuanVideo, TextMask) {
  const std::vector<float> states = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(*hunyuan_video::valid_text(states, std::vector<uint8_t>{1, 1, 0}),
            (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(hunyuan_video::valid_text(states, std::vector<uint8_t>{0, 1, 1}).status().message(),
            "the text mask starts with 0, wanted valid tokens first");
  EXPECT_EQ(
      hunyuan_video::valid_text(states, std::vector<uint8_t>{1, 0, 1}).status().message(),
      "the text mask has valid tokens after a 0 at position 1, wanted all valid tokens first");
  EXPECT_FALSE(hunyuan_video::valid_text(states, std::vector<uint8_t>{1, 1, 1, 1}).ok());
}

TEST_F(HunyuanVideo, RefusesWrongSetups) {
  const std::unique_ptr<HunyuanVideoTransformer> model = load("hunyuan_video");
  ASSERT_NE(model, nullptr);
  const Fixture fixture("hunyuan_video");
  const RunSetup good = read_sample(fixture, model->config(), 0).setup;
  auto refusal = [&](auto&& change) {
    RunSetup setup = good;
    change(setup);
    Engine engine(*backend_, nullptr);
    return model->begin_run(engine, setup).message();
  };
  EXPECT_EQ(refusal([](RunSetup&) {}), "");
  EXPECT_EQ(refusal([](RunSetup& s) { s.text_tokens = 0; }),
            "a run of 0 text tokens, wanted at least 1");
  EXPECT_EQ(refusal([](RunSetup& s) { s.rows = 0; }),
            "latents of 3x0x3 tokens (frames, rows, columns), wanted at least 1 of each");
  EXPECT_EQ(refusal([](RunSetup& s) { s.streams[0].pooled.pop_back(); }),
            "text conditioning of 192 and 7 values, wanted 192 and 8");
}

}  // namespace
}  // namespace flashomni

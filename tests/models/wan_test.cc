// SPDX-License-Identifier: Apache-2.0
//
// Wan against diffusers, block by block, and what it refuses.
#include <gtest/gtest.h>

#include "core/profiling_backend.h"
#include "flashomni/backend.h"
#include "models/wan/transformer.h"
#include "tests/models/changed_checkpoint.h"
#include "tests/models/fixture.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

using wan::RunSetup;
using wan::WanTransformer;

constexpr double kTolerance = 1e-5;  // of the standard deviation of what is compared

class Wan : public testing::Test {
 protected:
  Wan() : backend_(std::move(*make_backend("cpu", {.threads = 2}))) {}

  std::unique_ptr<WanTransformer> load(const std::string& folder) {
    return load_from(fixture_folder(folder));
  }
  std::unique_ptr<WanTransformer> load_from(const std::string& path) {
    auto model = WanTransformer::load(*backend_, path);
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.ok() ? std::move(*model) : nullptr;
  }

  static LatentShape shape_of(const Fixture& fixture) {
    const std::vector<int64_t> s = fixture["hidden_states"].shape;
    return {int(s[1]), int(s[2]), int(s[3]), int(s[4])};
  }

  // The recorded batch as a run: every sample a guidance stream, and a step of its own timestep.
  static RunSetup setup_of(const Fixture& fixture, const PatchSize& patch) {
    const LatentShape shape = shape_of(fixture);
    RunSetup setup;
    setup.frames = shape.frames / patch.frames;
    setup.rows = shape.height / patch.height;
    setup.cols = shape.width / patch.width;
    setup.timesteps = fixture["timestep"].values;
    const Recorded text = fixture["encoder_hidden_states"];
    setup.text_tokens = int(text.shape[1]);
    for (int64_t b = 0; b < text.shape[0]; ++b) setup.streams.push_back({text.sample(b)});
    return setup;
  }

  // The output for sample `b` as latents; the step and stream of that sample.
  std::vector<float> evaluate(WanTransformer& model, Engine& engine, const Fixture& fixture,
                              const RunSetup& setup, int b) {
    const wan::WanConfig& c = model.config();
    LatentShape shape = shape_of(fixture);
    std::vector<float> x = *latents_to_tokens(fixture["hidden_states"].sample(b), shape, c.patch);
    const int64_t n = int64_t{1} * setup.frames * setup.rows * setup.cols;
    std::vector<float> out(size_t(n * c.output_width()));
    EXPECT_TRUE(engine.begin_step(b).ok());
    engine.begin_stream(b);
    const Status s = model.forward(engine, b, b, view_of(x, {1, n, c.input_width()}),
                                   view_of(out, {1, n, c.output_width()}));
    EXPECT_TRUE(s.ok()) << s.message();
    shape.channels = c.out_channels;
    return *tokens_to_latents(out, shape, c.patch);
  }

  void compare(const std::string& folder) {
    const std::unique_ptr<WanTransformer> model = load(folder);
    ASSERT_NE(model, nullptr);
    EXPECT_TRUE(model->unused_tensors().empty());
    const Fixture fixture(folder);
    const RunSetup setup = setup_of(fixture, model->config().patch);
    Engine engine(*backend_, nullptr);
    const Status begun = model->begin_run(engine, setup);
    ASSERT_TRUE(begun.ok()) << begun.message();
    for (int b = 0; b < int(setup.streams.size()); ++b) {
      SCOPED_TRACE("sample " + std::to_string(b));
      std::map<std::string, std::vector<float>> states;
      model->set_tap(
          [&](const std::string& name, const TensorView& x) { states[name] = contents(x); });
      const std::vector<float> out = evaluate(*model, engine, fixture, setup, b);
      EXPECT_EQ(states.size(), 3u);
      for (const auto& [name, seen] : states) {
        std::vector<float> wanted = fixture[name + ".latents"].sample(b);
        if (name == "embed") wanted = transposed(wanted, seen.size() / model->config().width());
        EXPECT_LT(relative_error(seen, wanted), kTolerance) << name;
      }
      EXPECT_LT(relative_error(out, fixture["output"].sample(b)), kTolerance);
    }
  }

  // [D, tokens], which the convolution gives, as [tokens, D].
  static std::vector<float> transposed(const std::vector<float>& v, size_t tokens) {
    const size_t width = v.size() / tokens;
    std::vector<float> out(v.size());
    for (size_t i = 0; i < v.size(); ++i) out[i % tokens * width + i / tokens] = v[i];
    return out;
  }

  std::unique_ptr<Backend> backend_;
};

// Two prompts of different length padded with zeros, each at its own timestep.
TEST_F(Wan, TwoPrompts) {
  compare("wan");
}

// Patches of 2x1x2, RoPE axes of unequal size, no norm before the cross-attention, in shards.
TEST_F(Wan, PatchesAndShards) {
  compare("wan_patches");
}

// Keys and values of the prompt are made when a run begins: a block of a step projects four times
// (self-attention's Q, K and V, cross-attention's Q), for all of its steps.
TEST_F(Wan, TextKeysAreMadeOnce) {
  ProfilingBackend counting(*backend_);
  auto model = WanTransformer::load(counting, fixture_folder("wan"));
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Fixture fixture("wan");
  const RunSetup setup = setup_of(fixture, (*model)->config().patch);
  Engine engine(counting, nullptr);
  const auto projections = [&](const std::string& scope) {
    int64_t calls = 0;
    for (const ProfileRow& r : counting.rows()) {
      if (r.op == "gemm_q" && (scope.empty() || r.scope == scope)) calls += r.calls;
    }
    return calls;
  };
  counting.clear();
  ASSERT_TRUE((*model)->begin_run(engine, setup).ok());
  const int64_t layers = (*model)->config().num_layers, streams = int64_t(setup.streams.size());
  EXPECT_EQ(projections(""), 2 * layers * streams) << "K and V of every block and prompt";
  counting.clear();
  evaluate(**model, engine, fixture, setup, 0);
  evaluate(**model, engine, fixture, setup, 1);
  ASSERT_TRUE(counting.synchronize({}).ok());  // which collects the calls
  for (int64_t layer = 0; layer < layers; ++layer) {
    EXPECT_EQ(projections("blocks." + std::to_string(layer)), 2 * 4);
  }
}

// Copies of 16 bits, against what diffusers computes with all bits.
TEST_F(Wan, CheckpointsOf16Bits) {
  const Fixture fixture("wan");
  for (const StoredDType dtype : {StoredDType::kBF16, StoredDType::kF16}) {
    const testkit::TempDir dir;
    put_changed("wan", dir.path(), [&](Tensors& t) { round_to(dtype, t); });
    const std::unique_ptr<WanTransformer> model = load_from(dir.path());
    ASSERT_NE(model, nullptr);
    const RunSetup setup = setup_of(fixture, model->config().patch);
    Engine engine(*backend_, nullptr);
    ASSERT_TRUE(model->begin_run(engine, setup).ok());
    for (int b = 0; b < 2; ++b) {
      const double error =
          rms_error(evaluate(*model, engine, fixture, setup, b), fixture["output"].sample(b));
      EXPECT_LT(error, 1e-2);
      EXPECT_GT(error, 1e-5) << "the weights were rounded";
    }
  }
}

// A query projection that cannot follow the symbols is reported, and everything else still does.
TEST_F(Wan, SaysThatGemmQRunsDense) {
  const std::unique_ptr<WanTransformer> model = load("wan");
  ASSERT_NE(model, nullptr);
  RunSetup setup;
  setup.frames = 2;
  setup.rows = setup.cols = 12;
  setup.text_tokens = 4;
  setup.timesteps = {1000, 800, 600, 400, 200};
  setup.streams.push_back({std::vector<float>(4 * 16, 0.5f)});
  using Int = int64_t;
  const OptionMap random = {{"cached", 0.5},      {"skipped", 0.25},
                            {"warmup", Int{1}},   {"schedule_steps", Int{0}},
                            {"block_q", Int{32}}, {"block_kv", Int{32}}};
  Engine engine(*backend_, std::move(*make_strategy("random", random)));
  ASSERT_TRUE(model->begin_run(engine, setup).ok());
  std::vector<float> x(288 * 16, 0.25f), out(288 * 16);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.1f * float(i));
  for (int step = 0; step < 5; ++step) {
    ASSERT_TRUE(engine.begin_step(step).ok());
    engine.begin_stream(0);
    ASSERT_TRUE(
        model->forward(engine, step, 0, view_of(x, {1, 288, 16}), view_of(out, {1, 288, 16})).ok());
    ASSERT_TRUE(engine.end_step().ok());
  }
  ASSERT_TRUE(engine.end_run().ok());
  const RunReport& r = engine.report();
  EXPECT_EQ(r.gemm_q_sparsity, 0);
  EXPECT_GT(r.gemm_o_sparsity, 0.2);
  EXPECT_GT(r.attention_sparsity, 0.2);
  ASSERT_FALSE(r.fallbacks.empty());
  EXPECT_EQ(r.fallbacks[0].where, "GEMM-Q");
  EXPECT_EQ(r.fallbacks[0].reason,
            "queries are normalised over all heads of a token together, so no head's can be left "
            "out");
  EXPECT_EQ(r.fallbacks[0].count, model->config().num_layers);
}

TEST_F(Wan, RefusesWrongSetups) {
  const std::unique_ptr<WanTransformer> model = load("wan");
  ASSERT_NE(model, nullptr);
  const RunSetup good = setup_of(Fixture("wan"), model->config().patch);
  auto refusal = [&](auto&& change) {
    RunSetup setup = good;
    change(setup);
    Engine engine(*backend_, nullptr);
    return model->begin_run(engine, setup).message();
  };
  EXPECT_EQ(refusal([](RunSetup&) {}), "");
  EXPECT_EQ(refusal([](RunSetup& s) { s.text_tokens = 0; }),
            "a run of 0 text tokens, wanted at least 1");
  EXPECT_EQ(refusal([](RunSetup& s) { s.cols = 33; }),
            "latents of 3x3x33 tokens (frames, rows, columns), wanted 1 to 32 of each");
  EXPECT_EQ(refusal([](RunSetup& s) { s.streams[1].encoder_hidden_states.pop_back(); }),
            "text conditioning of 191 values, wanted 192");
}

}  // namespace
}  // namespace flashomni

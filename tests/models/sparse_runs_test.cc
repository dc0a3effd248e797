// SPDX-License-Identifier: Apache-2.0
//
// Every model end to end over a tiny checkpoint, dense and sparse: what the engine reports, and
// that zero sparsity is dense bit for bit.
#include <gtest/gtest.h>

#include <functional>

#include "flashomni/backend.h"
#include "flashomni/strategies.h"
#include "models/flux/transformer.h"
#include "models/hunyuan_video/transformer.h"
#include "models/wan/transformer.h"
#include "tests/models/fixture.h"

namespace flashomni {
namespace {

constexpr int kSteps = 9;

// Fixed numbers of standard deviation 1.
std::vector<float> wave(size_t count, double phase) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) {
    out[i] = float(std::sqrt(2.0) * std::sin(phase + 0.37 * double(i) + 1e-3 * double(i % 977)));
  }
  return out;
}

std::vector<float> sigmas() {
  std::vector<float> out;
  for (int t = 0; t < kSteps; ++t) out.push_back(1.f - float(t) / kSteps);
  return out;
}

// One model with the setup of a run, whatever their types.
struct Model {
  int64_t tokens = 0, channels = 0, streams = 1;
  std::function<Status(Engine&)> begin_run;
  std::function<Status(Engine&, int)> begin_one_step;  // a run of that step alone
  std::function<Status(Engine&, int, int, const TensorView&, const TensorView&)> forward;
};

// When each step is: what models precompute their modulations from.
template <class Setup>
std::vector<float>& times_of(Setup& setup) {
  return setup.sigmas;
}
std::vector<float>& times_of(wan::RunSetup& setup) {
  return setup.timesteps;
}

int input_width(const flux::FluxConfig& c) {
  return c.in_channels;
}
template <class Config>
int input_width(const Config& c) {
  return c.input_width();
}

template <class Transformer, class Setup>
Model bind_model(Backend& backend, const std::string& folder, Setup setup, int64_t tokens) {
  std::shared_ptr<Transformer> model =
      std::move(*Transformer::load(backend, fixture_folder(folder)));
  Model m;
  m.tokens = tokens;
  m.channels = input_width(model->config());
  m.streams = int64_t(setup.streams.size());
  m.begin_run = [model, setup](Engine& engine) { return model->begin_run(engine, setup); };
  m.begin_one_step = [model, setup](Engine& engine, int step) {
    Setup one = setup;
    times_of(one) = {times_of(one)[size_t(step)]};
    return model->begin_run(engine, one);
  };
  m.forward = [model](Engine& engine, int step, int stream, const TensorView& x,
                      const TensorView& out) {
    return model->forward(engine, step, stream, x, out);
  };
  return m;
}

Model flux_model(Backend& backend) {
  constexpr int kText = 9, kRows = 17, kCols = 16;
  flux::RunSetup setup;
  setup.sigmas = sigmas();
  setup.text_tokens = kText;
  setup.ids.assign(kText, PositionId{0, 0, 0});
  for (int y = 0; y < kRows; ++y) {
    for (int x = 0; x < kCols; ++x) setup.ids.push_back({0, float(y), float(x)});
  }
  setup.output_tokens = kRows * kCols;
  setup.guidance = 3.5f;
  setup.streams.push_back({wave(kText * 24, 1), wave(12, 2)});
  setup.streams.push_back({wave(kText * 24, 3), wave(12, 4)});
  return bind_model<flux::FluxTransformer>(backend, "flux_dev", setup, kRows * kCols);
}

Model hunyuan_video_model(Backend& backend) {
  hunyuan_video::RunSetup setup;
  setup.sigmas = sigmas();
  setup.text_tokens = 9;
  setup.frames = 3;
  setup.rows = 9;
  setup.cols = 11;
  setup.guidance = 6;
  setup.streams.push_back({wave(9 * 16, 1), wave(8, 2)});
  return bind_model<hunyuan_video::HunyuanVideoTransformer>(backend, "hunyuan_video", setup,
                                                            3 * 9 * 11);
}

Model wan_model(Backend& backend) {
  wan::RunSetup setup;
  for (float sigma : sigmas()) setup.timesteps.push_back(1000 * sigma);
  setup.text_tokens = 9;
  setup.frames = 3;
  setup.rows = 9;
  setup.cols = 11;
  setup.streams.push_back({wave(9 * 16, 1)});
  setup.streams.push_back({wave(9 * 16, 2)});
  return bind_model<wan::WanTransformer>(backend, "wan", setup, 3 * 9 * 11);
}

struct Outcome {
  std::vector<float> latents;
  RunReport report;
};

// A whole run with Euler steps (and guidance 3 where there are two streams).
Outcome denoise(Backend& backend, Model& model, const OptionMap* options) {
  std::unique_ptr<Strategy> strategy;
  if (options) strategy = std::move(*make_strategy("flashomni", *options));
  Engine engine(backend, std::move(strategy));
  Outcome o;
  Status s = model.begin_run(engine);
  EXPECT_TRUE(s.ok()) << s.message();
  o.latents = wave(size_t(model.tokens * model.channels), 5);
  std::vector<float> v[2];
  for (int step = 0; step < kSteps && s.ok(); ++step) {
    EXPECT_TRUE(engine.begin_step(step).ok());
    for (int stream = 0; stream < model.streams && s.ok(); ++stream) {
      v[stream].resize(o.latents.size());
      engine.begin_stream(stream);
      s = model.forward(engine, step, stream, view_of(o.latents, {1, model.tokens, model.channels}),
                        view_of(v[stream], {1, model.tokens, model.channels}));
      EXPECT_TRUE(s.ok()) << s.message();
    }
    for (size_t i = 0; i < o.latents.size(); ++i) {
      const float velocity = model.streams == 2 ? v[1][i] + 3 * (v[0][i] - v[1][i]) : v[0][i];
      o.latents[i] -= velocity / kSteps;
    }
    EXPECT_TRUE(engine.end_step().ok());
  }
  EXPECT_TRUE(engine.end_run().ok());
  o.report = engine.report();
  return o;
}

OptionMap options(double tau_q, double tau_kv, double s_q) {
  using Int = int64_t;
  return {{"tau_q", tau_q},   {"tau_kv", tau_kv},        {"ramp", 0.0},
          {"S_q", s_q},       {"order", Int{1}},         {"block_q", Int{32}},
          {"warmup", Int{3}}, {"interval", Int{3}},      {"block_kv", Int{32}},
          {"prime", true},    {"schedule_steps", Int{0}}};
}

struct Family {
  const char* name;
  Model (*make)(Backend&);
  bool caches;  // flashomni finds rows to cache
};

class SparseRuns : public testing::TestWithParam<Family> {
 protected:
  SparseRuns() : backend_(std::move(*make_backend("cpu", {.threads = 2}))) {
    model_ = GetParam().make(*backend_);
  }
  std::unique_ptr<Backend> backend_;
  Model model_;
};

TEST_P(SparseRuns, ZeroSparsityIsDenseBitForBit) {
  const Outcome dense = denoise(*backend_, model_, nullptr);
  const OptionMap zero = options(0, 0, 0);
  const Outcome sparse = denoise(*backend_, model_, &zero);
  EXPECT_EQ(sparse.latents, dense.latents);
  EXPECT_EQ(sparse.report.attention_sparsity, 0);
  EXPECT_FALSE(sparse.report.fallbacks.empty());  // it says that nothing was skipped
  for (float x : dense.latents) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(SparseRuns, SkipsAndCaches) {
  const Outcome dense = denoise(*backend_, model_, nullptr);
  const OptionMap chosen = options(0.6, 0.4, 0);
  const Outcome sparse = denoise(*backend_, model_, &chosen);
  EXPECT_GT(sparse.report.attention_sparsity, 0.1);
  // Without text in the sequence nothing is scored for caching, only for skipping.
  if (GetParam().caches) {
    EXPECT_GT(sparse.report.gemm_q_sparsity, 0.1);
    EXPECT_GT(sparse.report.gemm_o_sparsity, 0.1);
  }
  EXPECT_NE(sparse.latents, dense.latents);
  EXPECT_LT(relative_error(sparse.latents, dense.latents), 0.5);
  const Outcome again = denoise(*backend_, model_, &chosen);
  EXPECT_EQ(again.latents, sparse.latents);
}

TEST_P(SparseRuns, Degrades) {
  const Outcome dense = denoise(*backend_, model_, nullptr);
  const OptionMap chosen = options(0.6, 0.3, 1);
  const Outcome sparse = denoise(*backend_, model_, &chosen);
  EXPECT_GT(sparse.report.degraded_share, 0.3);
  EXPECT_LT(relative_error(sparse.latents, dense.latents), 1.0);
}

// What is computed once for a whole run (the modulations of all steps, the refined text of all
// steps, the keys and values of the prompt) has the bits of what each step would compute alone.
TEST_P(SparseRuns, PrecomputingChangesNoBit) {
  const std::vector<float> x = wave(size_t(model_.tokens * model_.channels), 5);
  const auto evaluate = [&](Engine& engine, int engine_step, int model_step, int stream) {
    std::vector<float> in = x, out(x.size());
    engine.begin_stream(stream);
    const Status s =
        model_.forward(engine, model_step, stream, view_of(in, {1, model_.tokens, model_.channels}),
                       view_of(out, {1, model_.tokens, model_.channels}));
    EXPECT_TRUE(s.ok()) << "step " << engine_step << ": " << s.message();
    return out;
  };
  std::vector<std::vector<float>> all;
  Engine engine(*backend_, nullptr);
  ASSERT_TRUE(model_.begin_run(engine).ok());
  for (int step = 0; step < kSteps; ++step) {
    ASSERT_TRUE(engine.begin_step(step).ok());
    for (int stream = 0; stream < model_.streams; ++stream) {
      all.push_back(evaluate(engine, step, step, stream));
    }
    ASSERT_TRUE(engine.end_step().ok());
  }
  size_t at = 0;
  for (int step = 0; step < kSteps; ++step) {
    Engine alone(*backend_, nullptr);
    ASSERT_TRUE(model_.begin_one_step(alone, step).ok());
    ASSERT_TRUE(alone.begin_step(0).ok());
    for (int stream = 0; stream < model_.streams; ++stream) {
      EXPECT_EQ(evaluate(alone, step, 0, stream), all[at++]) << "step " << step;
    }
  }
  EXPECT_NE(all.front(), all.back()) << "the steps differ";
}

INSTANTIATE_TEST_SUITE_P(Models, SparseRuns,
                         testing::Values(Family{"flux", flux_model, true},
                                         Family{"hunyuan_video", hunyuan_video_model, true},
                                         Family{"wan", wan_model, false}),
                         [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace flashomni

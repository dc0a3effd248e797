// SPDX-License-Identifier: Apache-2.0
//
// The order of the vision tokens that a strategy asks for, in the video models: with nothing left
// out it changes the rounding only, and what is left out is that of the tiles.
#include "models/layers/token_order.h"

#include <gtest/gtest.h>

#include <cmath>

#include "flashomni/backend.h"
#include "flashomni/strategies.h"
#include "models/hunyuan_video/transformer.h"
#include "models/wan/transformer.h"
#include "tests/models/fixture.h"

namespace flashomni {
namespace {

constexpr int kFrames = 3, kRows = 9, kCols = 11, kText = 9;
constexpr int kTokens = kFrames * kRows * kCols;

std::vector<float> wave(size_t count, double phase) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = float(std::sin(phase + 0.37 * double(i)));
  return out;
}

void set_run(hunyuan_video::RunSetup& setup) {
  setup.sigmas = {1.f};
  setup.guidance = 6;
  setup.streams.push_back({wave(kText * 16, 1), wave(8, 2)});
}
void set_run(wan::RunSetup& setup) {
  setup.timesteps = {900.f};
  setup.streams.push_back({wave(kText * 16, 1)});
}

template <class Transformer, class Setup>
struct VideoModel {
  VideoModel(Backend& on, const char* folder)
      : backend(on), model(std::move(*Transformer::load(on, fixture_folder(folder)))) {
    setup.text_tokens = kText;
    setup.frames = kFrames;
    setup.rows = kRows;
    setup.cols = kCols;
    set_run(setup);
  }

  // The velocity in the grid's order, and the share of attention left out.
  std::vector<float> evaluate(std::unique_ptr<Strategy> strategy, double* sparsity = nullptr) {
    std::vector<int> order;
    if (strategy) {
      SequenceInfo s;
      s.tokens = kTokens;
      s.grid = {kFrames, kRows, kCols};
      order = *strategy->token_order(s);
    }
    setup.token_order = order;
    Engine engine(backend, std::move(strategy));
    Status status = model->begin_run(engine, setup);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) return {};
    const int64_t in = model->config().input_width(), out = model->config().output_width();
    const auto permuted = [&](const std::vector<float>& x, int64_t width, bool back) {
      std::vector<float> y(x.size());
      for (size_t p = 0; p < size_t(kTokens); ++p) {
        const size_t from = order.empty() ? p : size_t(order[p]);
        for (size_t c = 0; c < size_t(width); ++c) {
          const size_t a = p * size_t(width) + c, b = from * size_t(width) + c;
          y[back ? b : a] = x[back ? a : b];
        }
      }
      return y;
    };
    std::vector<float> x = permuted(wave(size_t(kTokens * in), 5), in, false);
    std::vector<float> v(size_t(kTokens * out));
    EXPECT_TRUE(engine.begin_step(0).ok());
    engine.begin_stream(0);
    status =
        model->forward(engine, 0, 0, view_of(x, {1, kTokens, in}), view_of(v, {1, kTokens, out}));
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(engine.end_step().ok());
    EXPECT_TRUE(engine.end_run().ok());
    if (sparsity) *sparsity = engine.report().attention_sparsity;
    return permuted(v, out, true);
  }

  Backend& backend;
  std::unique_ptr<Transformer> model;
  Setup setup;
};

using Int = int64_t;
const OptionMap kBlocks = {{"block_q", Int{32}}, {"block_kv", Int{32}}, {"warmup", Int{0}}};

std::unique_ptr<Strategy> tiles(const char* name, OptionMap options) {
  options.insert(kBlocks.begin(), kBlocks.end());
  options.insert({{"tile_frames", Int{2}}, {"tile_rows", Int{4}}, {"tile_cols", Int{4}}});
  auto strategy = make_strategy(name, options);
  EXPECT_TRUE(strategy.ok()) << strategy.status().message();
  return strategy.ok() ? std::move(*strategy) : nullptr;
}

template <class Model>
void expect_order_changes_rounding_only(Model model) {
  const std::vector<float> dense = model.evaluate(nullptr);
  double sparsity = 1;
  const std::vector<float> tiled = model.evaluate(tiles("vsa", {{"sparsity", 0.0}}), &sparsity);
  EXPECT_EQ(sparsity, 0.0);
  EXPECT_LT(relative_error(tiled, dense), 1e-4);
  // Tiles of 32 tokens that see themselves and their neighbours in time.
  const std::vector<float> sliding = model.evaluate(
      tiles("sta", {{"window_frames", Int{3}}, {"window_rows", Int{1}}, {"window_cols", Int{1}}}),
      &sparsity);
  EXPECT_GT(sparsity, 0.3);
  EXPECT_GT(relative_error(sliding, dense), 1e-4);
  for (const float v : sliding) ASSERT_TRUE(std::isfinite(v));
}

TEST(TokenOrderOfVideoModels, ChangesRoundingOnly) {
  auto backend = std::move(*make_backend("cpu", {.threads = 2}));
  expect_order_changes_rounding_only(
      VideoModel<wan::WanTransformer, wan::RunSetup>(*backend, "wan"));
  expect_order_changes_rounding_only(
      VideoModel<hunyuan_video::HunyuanVideoTransformer, hunyuan_video::RunSetup>(*backend,
                                                                                  "hunyuan_video"));
}

TEST(TokenOrderOfVideoModels, IsCheckedByName) {
  EXPECT_TRUE(check_token_order(std::vector<int>{}, 4).ok());
  EXPECT_TRUE(check_token_order(std::vector<int>{2, 0, 1}, 3).ok());
  for (const std::vector<int>& bad : {std::vector<int>{0, 1}, {0, 0, 1}, {0, 1, 3}, {-1, 0, 1}}) {
    const Status s = check_token_order(bad, 3);
    EXPECT_NE(s.message().find("no permutation of the 3"), std::string::npos) << s.message();
  }
  const std::vector<PositionId> positions = {{0, 0, 0}, {0, 0, 1}, {0, 0, 2}};
  EXPECT_EQ(in_token_order(std::vector<int>{2, 0, 1}, positions),
            (std::vector<PositionId>{{0, 0, 2}, {0, 0, 0}, {0, 0, 1}}));
  EXPECT_EQ(in_token_order({}, positions), positions);

  auto backend = std::move(*make_backend("cpu", {.threads = 2}));
  VideoModel<wan::WanTransformer, wan::RunSetup> wan(*backend, "wan");
  wan.setup.token_order = {1, 1};
  Engine engine(*backend, nullptr);
  EXPECT_NE(wan.model->begin_run(engine, wan.setup).message().find("no permutation"),
            std::string::npos);
}

}  // namespace
}  // namespace flashomni

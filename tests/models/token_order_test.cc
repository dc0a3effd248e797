// SPDX-License-Identifier: Apache-2.0
//
// The order of the vision tokens that a strategy asks for, in the video models: with nothing left
// out it changes the rounding only, and what is left out is that of the tiles.
#include "models/layers/token_order.h"

#include <gtest/gtest.h>

#include <algorithm>
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
  options.insert(kBlocks.begin(), kBlocks.end());  // those that are given stay
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

// Tiles of 2 x 4 x 4 tokens divide no side of the grid; blocks end with them.
template <class Model>
void expect_ragged_blocks(Model model) {
  const OptionMap ragged = {{"ragged", true}};
  const auto with = [&](OptionMap more) {
    more.insert(ragged.begin(), ragged.end());
    return more;
  };
  // Nothing left out is the dense run in this order of the tokens, bit for bit.
  const std::vector<float> dense =
      model.evaluate(tiles("vsa", with({{"warmup", Int{100}}, {"schedule_steps", Int{0}}})));
  double sparsity = 1;
  EXPECT_EQ(model.evaluate(tiles("vsa", with({{"sparsity", 0.0}})), &sparsity), dense);
  EXPECT_EQ(sparsity, 0.0);
  for (const char* name : {"vsa", "sta"}) {
    OptionMap options = with({});
    if (std::string(name) == "sta") options["window_rows"] = options["window_cols"] = Int{1};
    const std::vector<float> v = model.evaluate(tiles(name, options), &sparsity);
    EXPECT_GT(sparsity, 0.3) << name;
    EXPECT_GT(relative_error(v, dense), 1e-4) << name;
    for (const float x : v) ASSERT_TRUE(std::isfinite(x)) << name;
  }
}

TEST(TokenOrderOfVideoModels, BlocksEndWhereTilesDo) {
  auto backend = std::move(*make_backend("cpu", {.threads = 2}));
  expect_ragged_blocks(VideoModel<wan::WanTransformer, wan::RunSetup>(*backend, "wan"));
  expect_ragged_blocks(VideoModel<hunyuan_video::HunyuanVideoTransformer, hunyuan_video::RunSetup>(
      *backend, "hunyuan_video"));
}

// A strategy of ragged blocks that asks for what they cannot have, or gives blocks that do not fit.
struct Wayward : Strategy {
  std::vector<int32_t> starts;
  CacheSpec cache;
  double threshold = 0;
  int columns = 32;

  const char* name() const override { return "wayward"; }
  Status begin_run(const RunInfo&) override { return ok_status(); }
  int block_q() const override { return 32; }
  int block_kv() const override { return columns; }
  CacheSpec cache_spec() const override { return cache; }
  Result<std::vector<int32_t>> block_starts(const SequenceInfo&) const override { return starts; }
  StepKind begin_step(const StepContext&) override { return StepKind::kFull; }
  Status build(const BuildContext&, SymbolsView) override { return ok_status(); }
  double softmax_skip() const override { return threshold; }
};

TEST(TokenOrderOfVideoModels, RaggedBlocksThatCannotBeAreRefusedBeforeTheRun) {
  auto backend = std::move(*make_backend("cpu", {.threads = 2}));
  VideoModel<wan::WanTransformer, wan::RunSetup> wan(*backend, "wan");
  std::vector<int32_t> good = {0};
  while (good.back() < kTokens) good.push_back(std::min(kTokens, good.back() + 20));
  const auto begin = [&](auto change) {
    auto strategy = std::make_unique<Wayward>();
    strategy->starts = good;
    change(*strategy);
    Engine engine(*backend, std::move(strategy));
    return wan.model->begin_run(engine, wan.setup);
  };
  const Status fine = begin([](Wayward&) {});
  EXPECT_TRUE(fine.ok()) << fine.message();
  const auto refused = [&](auto change, const char* words) {
    const Status s = begin(change);
    EXPECT_NE(s.message().find(std::string("strategy wayward: ") + words), std::string::npos)
        << s.message();
  };
  refused([](Wayward& w) { w.cache.features = true; }, "has ragged blocks, and the feature cache");
  refused([](Wayward& w) { w.threshold = 5; }, "has ragged blocks, which a threshold");
  refused([](Wayward& w) { w.columns = 64; }, "symbol geometry: ragged blocks of 32x64");
  refused([](Wayward& w) { w.starts.pop_back(); },
          "starts[14] of ragged blocks is 280, wanted 297");
  refused([](Wayward& w) { w.starts[1] = 40; }, "starts[1] of ragged blocks is 40");
  refused([](Wayward& w) { w.starts = {0, 297}; }, "symbol geometry: ragged_blocks is 1");
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

// SPDX-License-Identifier: Apache-2.0
//
// What must hold of every registered strategy: valid symbols at every step where it builds any,
// protected text, and attention under those symbols that agrees with the oracle.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/strategies/build_symbols.h"

namespace flashomni {
namespace {

constexpr int kSteps = 12;
constexpr int kLayers = 3;

// 6 frames of 8 x 10 tokens behind 40 text tokens, in blocks of 32: nothing divides anything.
SequenceInfo ragged_sequence() {
  SequenceInfo s = sequence(520, 40, 3, 8);
  s.grid = {6, 8, 10};
  return s;
}

// Options under which something is left out on so short a sequence.
OptionMap small_options(const StrategyInfo& info) {
  const OptionMap wanted = {
      {"block_q", int64_t{32}},
      {"block_kv", int64_t{32}},
      {"warmup", int64_t{2}},
      {"schedule_steps", int64_t{0}},
      {"interval", int64_t{3}},
      {"tau_q", 0.9},
      {"ramp", 0.0},
      {"window", int64_t{16}},
      {"patch_rows", int64_t{2}},
      {"patch_cols", int64_t{16}},
      {"tile_frames", int64_t{1}},
      {"tile_rows", int64_t{2}},
      {"tile_cols", int64_t{16}},
      {"tile_places", int64_t{16}},
      {"window_rows", int64_t{1}},
      {"first_frame", false},
      {"error_budget", 4.0},
      {"plan", std::string("steps 3-8, heads 0: window 0; layers 1: cached")}};

  OptionMap out;
  for (const OptionInfo& o : info.options) {
    const auto it = wanted.find(o.name);
    if (it != wanted.end()) out[o.name] = it->second;
  }
  // A plan of their own is what these are tested with.
  if (info.name == "ditfastattn" || info.name == "ditfastattn-v2") out.erase("plan");
  return out;
}

class EveryStrategy : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const StrategyInfo& s : list_strategies()) out.push_back(s.name);
  return out;
}

std::vector<float> normals(Rng& rng, const SequenceInfo& s) {
  std::vector<float> out(size_t(s.tokens) * size_t(s.heads) * size_t(s.head_dim));
  for (float& x : out) x = static_cast<float>(2 * rng.normal());
  return out;
}

// Attention on the backend under these symbols against the oracle, per element.
void expect_attention(Backend& backend, const SequenceInfo& s, SparseSymbols symbols,
                      std::vector<float> q, std::vector<float> k, std::vector<float> v) {
  std::vector<float> out(q.size(), 0.f);
  auto view = [&](std::vector<float>& x) {
    return TensorView::contiguous(x.data(), DType::kF32, {1, s.tokens, s.heads, s.head_dim});
  };
  std::vector<uint64_t> plan(backend.plan_bytes(symbols.geometry()) / 8 + 1);
  AttentionParams p{.q = view(q), .k = view(k), .v = view(v), .out = view(out)};
  p.symbols = symbols.view();
  p.plan = {plan.data(), plan.size() * 8};
  ASSERT_TRUE(backend.plan({}, {p.symbols, p.plan}).ok());
  std::vector<char> workspace(backend.workspace_bytes(p) + 1);
  const Status status = backend.attention({nullptr, workspace.data(), workspace.size()}, p);
  ASSERT_TRUE(status.ok()) << status.message();

  const SymbolGeometry& g = symbols.geometry();
  for (int h = 0; h < s.heads; ++h) {
    for (int i = 0; i < s.tokens; ++i) {
      auto at = [&](const std::vector<float>& x, int token, int c) {
        return double(
            x[(size_t(token) * size_t(s.heads) + size_t(h)) * size_t(s.head_dim) + size_t(c)]);
      };
      const int block = i / g.block_q;
      // By definition: the softmax over the tokens of the kept blocks; cached rows stay 0.
      std::vector<double> sums(size_t(s.head_dim), 0.0);
      double total = 0;
      for (int j = 0; symbols.c(0, h, block) && j < s.tokens; ++j) {
        if (!symbols.s(0, h, block, j / g.block_kv)) continue;
        double dot = 0;
        for (int c = 0; c < s.head_dim; ++c) dot += at(q, i, c) * at(k, j, c);
        const double weight = std::exp(dot / std::sqrt(double(s.head_dim)));
        total += weight;
        for (int c = 0; c < s.head_dim; ++c) sums[size_t(c)] += weight * at(v, j, c);
      }
      for (int c = 0; c < s.head_dim; ++c) {
        const double want = total > 0 ? sums[size_t(c)] / total : 0.0;
        ASSERT_NEAR(at(out, i, c), want, 1e-4) << "head " << h << " token " << i;
      }
    }
  }
}

TEST_P(EveryStrategy, BuildsValidSymbolsThatAttentionFollows) {
  const StrategyInfo info = *find_strategy(GetParam());
  const OptionMap options = small_options(info);
  auto made = make_strategy(GetParam(), options);
  ASSERT_TRUE(made.ok()) << made.status().message();
  Strategy& strategy = **made;
  const SequenceInfo s = ragged_sequence();
  auto backend = std::move(*make_backend("cpu", {.threads = 2}));

  const auto order = strategy.token_order(s);
  ASSERT_TRUE(order.ok()) << order.status().message();
  if (!order->empty()) {
    EXPECT_EQ(std::set<int>(order->begin(), order->end()).size(), 480u);
    EXPECT_EQ(order->size(), 480u);
  }
  RunInfo run = run_of(s, kSteps, kLayers);
  run.token_order = *order;
  const Status begun = strategy.begin_run(run);
  ASSERT_TRUE(begun.ok()) << begun.message();
  ASSERT_TRUE(strategy.prepare(*backend, {}).ok());
  const CacheSpec cache = strategy.cache_spec();
  const bool protects = options.count("protect_text") == 0 &&
                        std::any_of(info.options.begin(), info.options.end(), [](const auto& o) {
                          return o.name == "protect_text" && std::get<bool>(o.default_value);
                        });

  SymbolGeometry g;
  g.heads = s.heads;
  g.q_tokens = g.kv_tokens = s.tokens;
  g.block_q = strategy.block_q();
  g.block_kv = strategy.block_kv();
  ASSERT_TRUE(g.validate().ok());
  std::vector<uint64_t> scratch(strategy.scratch_bytes(s) / 8 + 1);
  Rng rng(17);
  int builds = 0, sparse_builds = 0, last_update = -1;
  for (int step = 0; step < kSteps; ++step) {
    const StepContext context{step, kSteps, last_update};
    const StepKind kind = strategy.begin_step(context);
    if (kind == StepKind::kUpdate) last_update = step;
    for (int layer = 0; layer < kLayers; ++layer) {
      const LayerAction action = strategy.layer_action(context, layer, 0);
      const bool update = action == LayerAction::kUpdate ||
                          (action == LayerAction::kFollow && kind == StepKind::kUpdate);
      if (!cache.symbols || !(update || action == LayerAction::kRebuild)) continue;
      std::vector<float> q = normals(rng, s), k = normals(rng, s), v = normals(rng, s);
      std::vector<float> fresh = normals(rng, s), before = normals(rng, s);
      auto view = [&](std::vector<float>& x) {
        return TensorView::contiguous(x.data(), DType::kF32, {1, s.tokens, s.heads, s.head_dim});
      };
      SparseSymbols symbols(g);
      // What was there before must not matter.
      for (uint64_t& w : symbols.c_words()) w = ~uint64_t{0};
      for (uint64_t& w : symbols.s_words()) w = ~uint64_t{0};
      BuildContext c;
      c.backend = backend.get();
      c.step = context;
      c.layer = layer;
      c.sequence = s;
      c.q = view(q);
      c.k = view(k);
      if (update) c.attention = view(fresh);
      if (update && builds > 0) c.previous = c.forecast = view(before);
      strategy.feedback(context, layer, 0, 1, 0.5);
      c.scratch = scratch.data();
      const Status status = strategy.build(c, symbols.view());
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_TRUE(symbols.validate().ok()) << symbols.validate().message();
      if (!cache.features) {
        EXPECT_EQ(symbols.counts().active_rows, symbols.counts().rows);
      }
      if (protects) {
        for (int h = 0; h < s.heads; ++h) {
          for (int b = 0; b < g.num_q_blocks(); ++b) {
            const bool text_row = b * g.block_q < s.text_end;
            // Plans cache whole heads, text rows and all.
            const bool whole_head = symbols.counts(0, h).active_rows == 0;
            EXPECT_TRUE(!text_row || symbols.c(0, h, b) || whole_head) << "text row " << b;
            if (!symbols.c(0, h, b)) continue;
            for (int j = 0; j < g.num_kv_blocks(); ++j) {
              const bool text = text_row || j * g.block_kv < s.text_end;
              EXPECT_TRUE(!text || symbols.s(0, h, b, j));
            }
          }
        }
      }
      ++builds;
      sparse_builds += symbols.counts().active_pairs < symbols.counts().pairs;
      if (builds <= 3) expect_attention(*backend, s, symbols, q, k, v);
    }
  }
  if (cache.symbols && GetParam() != "dense") {
    EXPECT_GT(builds, 0);
    EXPECT_GT(sparse_builds, 0) << "a case in which the strategy leaves nothing out shows nothing";
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryStrategy, ::testing::ValuesIn(names()),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace flashomni

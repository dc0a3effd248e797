// SPDX-License-Identifier: Apache-2.0
//
// One attention call as a test: a case, its inputs, everything that is not needed turned into NaN,
// the run on a backend in guarded memory, the truth with its error bounds, and the verdict.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "reference/attention.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {

struct AttentionCase {
  uint64_t seed = 0;
  SymbolGeometry geometry;
  std::vector<int32_t> starts;  // of ragged blocks, as many as the geometry says
  int head_dim = 64;
  DType dtype = DType::kF32;
  bool sparse = true;
  Pattern pattern = Pattern::kAllOnes;
  bool with_lse = true;
  float scale = 0;
  bool rising = false;  // scores grow along the keys, to hundreds
  float softmax_skip = 0;
  Placement placement;

  std::string text() const {
    std::ostringstream s;
    s << "attention seed=" << seed << " b=" << geometry.batch << " h=" << geometry.heads
      << " n=" << geometry.q_tokens << " nkv=" << geometry.kv_tokens << " d=" << head_dim
      << " block=" << geometry.block_q << "x" << geometry.block_kv
      << " ragged=" << geometry.ragged_blocks << " " << dtype_name(dtype) << " "
      << (sparse ? pattern_name(pattern) : "dense") << (with_lse ? " lse" : "")
      << (rising ? " rising" : "") << " scale=" << scale << " skip=" << softmax_skip << " "
      << placement_text(placement);
    return s.str();
  }
};

// Cuts the case's tokens into blocks of their own length: of 1 to block_q tokens, or, to try both
// ends, single tokens and whole blocks only. Queries and keys become alike.
inline void make_ragged(AttentionCase& c) {
  Rng rng(c.seed ^ 0x4a99ed);
  SymbolGeometry& g = c.geometry;
  g.kv_tokens = g.q_tokens;
  g.block_kv = g.block_q;
  const bool extremes = rng.coin(0.3);
  const int shortest = rng.coin(0.5) ? 1 : g.block_q / 2;
  c.starts = {0};
  while (c.starts.back() < g.q_tokens) {
    const int length = extremes ? (rng.coin(0.5) ? 1 : g.block_q) : rng.range(shortest, g.block_q);
    c.starts.push_back(std::min(g.q_tokens, c.starts.back() + length));
  }
  g.ragged_blocks = static_cast<int>(c.starts.size()) - 1;
}

inline AttentionCase random_attention_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  AttentionCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 5);
  g.block_q = pick_block(rng);
  g.block_kv = pick_block(rng);
  g.q_tokens = pick_tokens(rng, g.block_q);
  g.kv_tokens = rng.coin(0.6) ? g.q_tokens : pick_tokens(rng, g.block_kv);
  c.head_dim = pick_head_dim(rng);
  if (g.q_tokens > 128) g.heads = std::min(g.heads, 2);  // the oracle is quadratic
  c.dtype = pick<DType>(rng, {DType::kF32, DType::kF32, DType::kBF16, DType::kF16});
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.5);
  c.with_lse = rng.coin(0.5);
  c.scale = pick<float>(rng, {0.f, 0.f, 0.5f});
  c.placement = pick_placement(rng);
  return c;
}

struct AttentionData {
  std::vector<double> q, k, v;
  SparseSymbols symbols;
};

inline AttentionData make_data(const AttentionCase& c) {
  Rng rng(c.seed ^ 0x5eed);
  const SymbolGeometry& g = c.geometry;
  const int64_t row = int64_t{1} * g.batch * g.heads * c.head_dim;
  AttentionData data;
  data.q = rounded_to(c.dtype, outlier_values(rng, row * g.q_tokens));
  data.k = rounded_to(c.dtype, normal_values(rng, row * g.kv_tokens));
  if (c.rising) {
    for (size_t i = 0; i < data.k.size(); ++i) {
      const double token = static_cast<double>(i / (g.heads * c.head_dim) % g.kv_tokens);
      data.k[i] = static_cast<float>(data.k[i] + 0.3 * data.q[i % c.head_dim] * token);
    }
    data.k = rounded_to(c.dtype, data.k);
  }
  data.v = rounded_to(c.dtype, outlier_values(rng, row * g.kv_tokens));
  data.symbols = make_symbols(g, c.pattern, rng, c.starts);
  return data;
}

// Sets q of cached tiles and k, v of blocks that no computed row looks at to NaN.
inline void poison(const AttentionCase& c, AttentionData& data) {
  const SymbolGeometry& g = c.geometry;
  const reference::BlockMask mask = to_block_mask(data.symbols);
  const auto fill = [&](std::vector<double>& x, int tokens, int b, int h, int n) {
    const size_t at = ((static_cast<size_t>(b) * tokens + n) * g.heads + h) * c.head_dim;
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(at), c.head_dim, kNan);
  };
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for (int n = 0; n < g.q_tokens; ++n) {
        if (!mask.computes(b, h, n)) fill(data.q, g.q_tokens, b, h, n);
      }
      for (int m = 0; m < g.kv_tokens; ++m) {
        bool needed = false;
        for (int i = 0; i < g.num_q_blocks(); ++i) {
          const int n = mask.q_begin(i);
          needed = needed || (mask.computes(b, h, n) && mask.attends(b, h, n, m));
        }
        if (needed) continue;
        fill(data.k, g.kv_tokens, b, h, m);
        fill(data.v, g.kv_tokens, b, h, m);
      }
    }
  }
}

struct AttentionOutcome {
  Status status;
  Output out, lse;
  SoftmaxSkipCounts skipped;
  std::string damage;
};

inline AttentionOutcome run(Backend& backend, const AttentionCase& c, const AttentionData& data) {
  const SymbolGeometry& g = c.geometry;
  const std::vector<int64_t> q_shape = {g.batch, g.q_tokens, g.heads, c.head_dim};
  const std::vector<int64_t> kv_shape = {g.batch, g.kv_tokens, g.heads, c.head_dim};
  const GuardTensor q(backend, c.dtype, q_shape, data.q, c.placement);
  const GuardTensor k(backend, c.dtype, kv_shape, data.k, c.placement);
  const GuardTensor v(backend, c.dtype, kv_shape, data.v, c.placement);
  const GuardTensor out(backend, c.dtype, q_shape, c.placement);
  GuardTensor lse;
  if (c.with_lse) {
    lse = GuardTensor(backend, DType::kF32, {g.batch, g.heads, g.q_tokens}, c.placement);
  }
  GuardedSymbols symbols;
  if (c.sparse) symbols = GuardedSymbols(backend, data.symbols);

  AttentionOutcome outcome;
  const AttentionParams params{.q = q.view(),
                               .k = k.view(),
                               .v = v.view(),
                               .out = out.view(),
                               .scale = c.scale,
                               .symbols = symbols.view(),
                               .plan = symbols.make_plan(),
                               .lse = lse.view(),
                               .softmax_skip = c.softmax_skip,
                               .skip_counts = &outcome.skipped};
  outcome.status = backend.supports(params);
  const GuardBuffer workspace(backend, outcome.status.ok() ? backend.workspace_bytes(params) : 0);
  const Status done = backend.attention({nullptr, workspace.data(), workspace.bytes()}, params);
  EXPECT_EQ(done.ok(), outcome.status.ok())
      << "supports() and the operation disagree: " << done.to_string();
  outcome.out = out.read();
  outcome.lse = lse.read();
  outcome.damage = q.damage() + k.damage() + v.damage() + out.damage() + lse.damage() +
                   symbols.damage() + workspace.damage();
  return outcome;
}

struct AttentionTruth {
  Expected out, lse;
  reference::LeftOut left_out;
};

template <class Real>
reference::AttentionInput<Real> oracle_input(const AttentionCase& c, const AttentionData& data,
                                             const reference::BlockMask* mask) {
  reference::AttentionInput<Real> in;
  in.batch = c.geometry.batch;
  in.q_tokens = c.geometry.q_tokens;
  in.kv_tokens = c.geometry.kv_tokens;
  in.heads = c.geometry.heads;
  in.head_dim = c.head_dim;
  in.q.assign(data.q.begin(), data.q.end());
  in.k.assign(data.k.begin(), data.k.end());
  in.v.assign(data.v.begin(), data.v.end());
  in.scale = c.scale;
  in.mask = mask;
  in.softmax_skip = c.softmax_skip;
  return in;
}

// |q| |k| scale of every row (b, n, h): the size of its scores before they are summed.
inline std::vector<double> score_magnitude(const AttentionCase& c, const AttentionData& data) {
  const auto norms = [&](const std::vector<double>& x) {
    std::vector<double> norm;
    for (auto row = x.begin(); row != x.end(); row += c.head_dim) {
      norm.push_back(std::sqrt(std::inner_product(row, row + c.head_dim, row, 0.0)));
    }
    return norm;
  };
  const std::vector<double> keys = norms(data.k);
  const double longest_key = *std::max_element(keys.begin(), keys.end());
  const double scale = c.scale != 0 ? c.scale : 1 / std::sqrt(c.head_dim);
  std::vector<double> magnitude = norms(data.q);
  for (double& m : magnitude) m *= longest_key * scale;
  return magnitude;
}

inline AttentionTruth make_truth(const AttentionCase& c, const AttentionData& data) {
  const SymbolGeometry& g = c.geometry;
  const reference::BlockMask mask = to_block_mask(data.symbols);
  const reference::BlockMask* used = c.sparse ? &mask : nullptr;
  const size_t rows = data.q.size() / static_cast<size_t>(c.head_dim);

  std::vector<double> out(data.q.size(), kNan), lse(rows, kNan);
  reference::LeftOut left_out;
  reference::attention(oracle_input<double>(c, data, used), out, &lse, &left_out);
  std::vector<float> naive_out(data.q.size()), naive_lse(rows);
  reference::attention(oracle_input<float>(c, data, used), naive_out, &naive_lse);

  // A score's rounding error becomes a relative error of its weight.
  AttentionData positive = data;
  positive.v = absolute(data.v);
  std::vector<double> out_magnitude(data.q.size()), lse_magnitude(rows);
  reference::attention<double>(oracle_input<double>(c, positive, used), out_magnitude, nullptr);
  const std::vector<double> score = score_magnitude(c, data);
  for (size_t i = 0; i < out_magnitude.size(); ++i) out_magnitude[i] *= 1 + score[i / c.head_dim];
  for (size_t row = 0; row < rows; ++row) {
    const size_t h = row % g.heads;
    const size_t n = row / g.heads % g.q_tokens;
    const size_t b = row / g.heads / g.q_tokens;
    lse_magnitude[(b * g.heads + h) * g.q_tokens + n] = 1 + score[row];
  }

  AttentionTruth truth;
  truth.left_out = left_out;
  truth.out = within(out, {.naive = to_f64(naive_out),
                           .magnitude = out_magnitude,
                           .row = c.head_dim,
                           .slack = kSoftmaxSlack,
                           .out_dtype = c.dtype});
  if (c.with_lse) {
    truth.lse = within(
        lse, {.naive = to_f64(naive_lse), .magnitude = lse_magnitude, .slack = kSoftmaxSlack});
  }
  return truth;
}

inline testing::AssertionResult check(const AttentionOutcome& outcome,
                                      const AttentionTruth& truth) {
  if (auto out = compare(outcome.out, truth.out); !out) return out << " in out";
  if (auto lse = compare(outcome.lse, truth.lse); !lse) return lse << " in lse";
  return testing::AssertionSuccess();
}

}  // namespace flashomni::testkit

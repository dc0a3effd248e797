// SPDX-License-Identifier: Apache-2.0
//
// One GEMM-Q call as a test: see attention_case.h for the parts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "reference/gemm_q.h"
#include "reference/linear.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/packed.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {

struct GemmQCase {
  uint64_t seed = 0;
  SymbolGeometry geometry;
  int token_offset = 0;
  int rows = 0;
  int in_features = 0;
  int head_dim = 0;
  DType x_dtype = DType::kF32;
  DType x_values = DType::kF32;  // a type that holds all values of x exactly
  DType weight_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  bool bias = true;
  bool rms = true;
  bool rope = true;
  bool sparse = true;
  Pattern pattern = Pattern::kAllOnes;
  Placement placement;

  std::string text() const {
    std::ostringstream s;
    s << "gemm_q seed=" << seed << " b=" << geometry.batch << " h=" << geometry.heads
      << " n=" << geometry.q_tokens << " rows=" << token_offset << "+" << rows
      << " k=" << in_features << " d=" << head_dim << " block=" << geometry.block_q
      << " x=" << dtype_name(x_dtype) << " w=" << dtype_name(weight_dtype)
      << " out=" << dtype_name(out_dtype) << (bias ? " bias" : "") << (rms ? " rms" : "")
      << (rope ? " rope" : "") << " " << (sparse ? pattern_name(pattern) : "dense") << " "
      << placement_text(placement);
    return s.str();
  }
};

inline GemmQCase random_gemm_q_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  GemmQCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 5);
  g.block_q = g.block_kv = pick_block(rng);
  g.q_tokens = g.kv_tokens = pick_tokens(rng, g.block_q);
  c.token_offset = rng.coin(0.4) ? 0 : rng.range(0, g.q_tokens - 1);
  c.rows = rng.coin(0.4) ? g.q_tokens - c.token_offset : rng.range(1, g.q_tokens - c.token_offset);
  c.in_features = pick_width(rng);
  c.head_dim = pick_head_dim(rng);
  c.weight_dtype = pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16});
  c.out_dtype = pick<DType>(rng, {DType::kF32, DType::kF32, DType::kF32, DType::kBF16});
  c.bias = rng.coin(0.7);
  c.rms = rng.coin(0.6);
  c.rope = rng.coin(0.6);
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.3);
  c.placement = pick_placement(rng);
  return c;
}

struct GemmQData {
  std::vector<double> x;
  LayerValues layer;
  std::vector<double> rms_weight;
  std::vector<double> cos, sin;
  SparseSymbols symbols;
};

inline GemmQData make_data(const GemmQCase& c) {
  Rng rng(c.seed ^ 0x5eed);
  const SymbolGeometry& g = c.geometry;
  GemmQData data;
  data.x = rounded_to(
      c.x_values,
      rounded_to(c.x_dtype, outlier_values(rng, int64_t{1} * g.batch * c.rows * c.in_features)));
  data.layer = make_layer(rng, g.heads * c.head_dim, c.in_features, c.weight_dtype, c.bias);
  if (c.rms) data.rms_weight = rounded_to(DType::kF32, normal_values(rng, c.head_dim));
  if (c.rope) {
    for (int i = 0; i < g.q_tokens * (c.head_dim / 2); ++i) {
      const double angle = 6.3 * rng.uniform();
      data.cos.push_back(static_cast<float>(std::cos(angle)));
      data.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  data.symbols = make_symbols(g, c.pattern, rng);
  return data;
}

// Sets the rows of x that no head computes to NaN.
inline void poison(const GemmQCase& c, GemmQData& data) {
  const reference::BlockMask mask = to_block_mask(data.symbols);
  for (int b = 0; b < c.geometry.batch; ++b) {
    for (int r = 0; r < c.rows; ++r) {
      bool needed = false;
      for (int h = 0; h < c.geometry.heads; ++h) {
        needed = needed || mask.computes(b, h, c.token_offset + r);
      }
      if (needed) continue;
      std::fill_n(data.x.begin() + (b * c.rows + r) * c.in_features, c.in_features, kNan);
    }
  }
}

struct GemmQOutcome {
  Status status;
  Output out;
  std::string damage;
};

inline GemmQOutcome run(Backend& backend, const GemmQCase& c, const GemmQData& data) {
  const SymbolGeometry& g = c.geometry;
  const GuardTensor x(backend, c.x_dtype, {g.batch, c.rows, c.in_features}, data.x, c.placement);
  const auto weight = pack(backend, data.layer, c.head_dim, c.placement);
  GuardTensor rms, cos, sin;
  if (c.rms) rms = GuardTensor(backend, DType::kF32, {c.head_dim}, data.rms_weight);
  if (c.rope) {
    const std::vector<int64_t> shape = {g.q_tokens, c.head_dim / 2};
    cos = GuardTensor(backend, DType::kF32, shape, data.cos, c.placement);
    sin = GuardTensor(backend, DType::kF32, shape, data.sin, c.placement);
  }
  const GuardTensor out(backend, c.out_dtype, {g.batch, g.q_tokens, g.heads, c.head_dim},
                        c.placement);
  GuardedSymbols symbols;
  if (c.sparse) symbols = GuardedSymbols(backend, data.symbols);

  const GemmQParams params{.x = x.view(),
                           .weight = weight.get(),
                           .rms_weight = rms.view(),
                           .rope = {cos.view(), sin.view()},
                           .token_offset = c.token_offset,
                           .out = out.view(),
                           .symbols = symbols.view(),
                           .plan = symbols.make_plan()};
  GemmQOutcome outcome;
  outcome.status = backend.supports(params);
  const GuardBuffer workspace(backend, outcome.status.ok() ? backend.workspace_bytes(params) : 0);
  const Status done = backend.gemm_q({nullptr, workspace.data(), workspace.bytes()}, params);
  EXPECT_EQ(done.ok(), outcome.status.ok())
      << "supports() and the operation disagree: " << done.to_string();
  outcome.out = out.read();
  outcome.damage = x.damage() + rms.damage() + cos.damage() + sin.damage() + out.damage() +
                   symbols.damage() + workspace.damage();
  return outcome;
}

template <class Real>
reference::GemmQInput<Real> oracle_input(const GemmQCase& c, const GemmQData& data,
                                         const reference::BlockMask* mask) {
  const auto as_real = [](const std::vector<double>& v) {
    return std::vector<Real>(v.begin(), v.end());
  };
  reference::GemmQInput<Real> in;
  in.batch = c.geometry.batch;
  in.tokens = c.geometry.q_tokens;
  in.rows = c.rows;
  in.token_offset = c.token_offset;
  in.in_features = c.in_features;
  in.heads = c.geometry.heads;
  in.head_dim = c.head_dim;
  in.x = as_real(data.x);
  in.weight = as_real(data.layer.weight);
  in.bias = as_real(data.layer.bias);
  in.rms_weight = as_real(data.rms_weight);
  in.rope_cos = as_real(data.cos);
  in.rope_sin = as_real(data.sin);
  in.mask = mask;
  return in;
}

// Per element of out [B, N, H, d]: the largest sum of absolute products in its head, scaled as
// RMSNorm scales the head. (A rotation adds two such elements.)
inline std::vector<double> magnitude(const GemmQCase& c, const GemmQData& data) {
  const SymbolGeometry& g = c.geometry;
  const int d = c.head_dim;
  const int rows = g.batch * c.rows;
  const std::vector<double> y = reference::linear(rows, c.in_features, g.heads * d, data.x,
                                                  data.layer.weight, data.layer.bias);
  const std::vector<double> size =
      reference::linear(rows, c.in_features, g.heads * d, absolute(data.x),
                        absolute(data.layer.weight), absolute(data.layer.bias));
  double rms_weight = 1;
  for (double w : data.rms_weight) rms_weight = std::max(rms_weight, std::abs(w));

  std::vector<double> result(static_cast<size_t>(g.batch) * g.q_tokens * g.heads * d);
  for (int row = 0; row < rows; ++row) {
    for (int h = 0; h < g.heads; ++h) {
      const size_t from = (static_cast<size_t>(row) * g.heads + h) * d;
      double scale = 1;
      if (c.rms) {
        double square = 0;
        for (int e = 0; e < d; ++e) square += y[from + e] * y[from + e];
        scale = rms_weight / std::sqrt(square / d + 1e-6);
      }
      const auto first = size.begin() + static_cast<std::ptrdiff_t>(from);
      const double largest = 2 * scale * *std::max_element(first, first + d);
      const int n = row / c.rows * g.q_tokens + c.token_offset + row % c.rows;
      std::fill_n(result.begin() + (static_cast<std::ptrdiff_t>(n) * g.heads + h) * d, d, largest);
    }
  }
  return result;
}

inline Expected make_truth(const GemmQCase& c, const GemmQData& data) {
  const SymbolGeometry& g = c.geometry;
  const reference::BlockMask mask = to_block_mask(data.symbols);
  const reference::BlockMask* used = c.sparse ? &mask : nullptr;
  std::vector<double> out(static_cast<size_t>(g.batch) * g.q_tokens * g.heads * c.head_dim, kNan);
  std::vector<float> naive(out.size());
  reference::gemm_q(oracle_input<double>(c, data, used), out);
  reference::gemm_q(oracle_input<float>(c, data, used), naive);
  return within(out, {.naive = to_f64(naive),
                      .magnitude = magnitude(c, data),
                      .row = c.head_dim,
                      .slack = kSumSlack,
                      .out_dtype = c.out_dtype});
}

}  // namespace flashomni::testkit

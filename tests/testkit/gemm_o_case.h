// SPDX-License-Identifier: Apache-2.0
//
// One GEMM-O call as a test, in either form: see attention_case.h for the parts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "reference/gemm_o.h"
#include "reference/linear.h"
#include "reference/taylor.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/packed.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {

struct GemmOCase {
  uint64_t seed = 0;
  bool update = false;  // the update form; REQUIRES sparse
  SymbolGeometry geometry;
  int token_offset = 0;
  int rows = 0;
  int head_dim = 0;
  int mlp_features = 0;
  int width = 0;
  DType dtype = DType::kF32;   // of activations, planes and factors
  DType values = DType::kF32;  // a type that holds all values of the left factors exactly
  DType weight_dtype = DType::kF32;
  bool bias = true;
  bool out = true;
  bool residual = false;
  bool gate = false;
  bool sparse = true;
  Pattern pattern = Pattern::kAllOnes;
  int num_planes = 1;
  Placement placement;

  std::string text() const {
    std::ostringstream s;
    s << (update ? "gemm_o_update" : "gemm_o") << " seed=" << seed << " b=" << geometry.batch
      << " h=" << geometry.heads << " n=" << geometry.q_tokens << " rows=" << token_offset << "+"
      << rows << " d=" << head_dim << " mlp=" << mlp_features << " width=" << width
      << " block=" << geometry.block_q << " " << dtype_name(dtype)
      << " w=" << dtype_name(weight_dtype) << (bias ? " bias" : "") << (out ? " out" : "")
      << (residual ? " residual" : "") << (gate ? " gate" : "") << " planes=" << num_planes << " "
      << (sparse ? pattern_name(pattern) : "dense") << " " << placement_text(placement);
    return s.str();
  }
};

inline GemmOCase random_gemm_o_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  GemmOCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 5);
  g.block_q = g.block_kv = pick_block(rng);
  g.q_tokens = g.kv_tokens = pick_tokens(rng, g.block_q);
  c.token_offset = rng.coin(0.4) ? 0 : rng.range(0, g.q_tokens - 1);
  c.rows = rng.coin(0.4) ? g.q_tokens - c.token_offset : rng.range(1, g.q_tokens - c.token_offset);
  c.head_dim = pick_head_dim(rng);
  c.mlp_features = rng.coin(0.4) ? pick_width(rng) : 0;
  c.width = pick_width(rng);
  c.weight_dtype = pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16});
  c.bias = rng.coin(0.7);
  c.residual = rng.coin(0.5);
  c.out = !c.residual || rng.coin(0.5);
  c.gate = c.residual && rng.coin(0.7);
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.3);
  c.num_planes = rng.range(1, GemmOParams::kMaxPlanes);
  c.placement = pick_placement(rng);
  return c;
}

struct GemmOData {
  std::vector<std::vector<double>> factors;  // [B, N, H, d] each; attn is factor 0
  std::vector<std::vector<double>> planes;   // [B, N, D] each
  std::vector<double> coefficients;
  std::vector<double> mlp, residual, gate;
  LayerValues layer;
  SparseSymbols symbols;
};

inline GemmOData make_data(const GemmOCase& c) {
  Rng rng(c.seed ^ 0x5eed);
  const SymbolGeometry& g = c.geometry;
  const int64_t tokens = int64_t{1} * g.batch * g.q_tokens;
  const int64_t rows = int64_t{1} * g.batch * c.rows;
  const auto rounded = [&](std::vector<double> values) { return rounded_to(c.dtype, values); };
  const auto factor = [&](std::vector<double> values) {
    return rounded_to(c.values, rounded(std::move(values)));
  };
  const auto f32 = [](std::vector<double> values) { return rounded_to(DType::kF32, values); };
  GemmOData data;
  for (int m = 0; m < c.num_planes; ++m) {
    data.factors.push_back(factor(outlier_values(rng, tokens * g.heads * c.head_dim)));
    data.planes.push_back(rounded(normal_values(rng, tokens * c.width)));
  }
  data.coefficients = f32(reference::taylor_coefficients(c.num_planes, rng.range(1, 5)));
  data.mlp = factor(outlier_values(rng, rows * c.mlp_features));
  if (c.residual) data.residual = rounded(normal_values(rng, rows * c.width, 3));
  if (c.gate) data.gate = f32(normal_values(rng, int64_t{1} * g.batch * c.width));
  data.layer =
      make_layer(rng, c.width, g.heads * c.head_dim + c.mlp_features, c.weight_dtype, c.bias);
  data.symbols = make_symbols(g, c.pattern, rng);
  return data;
}

// Sets to NaN what the form does not need: the cached tiles of attn (dispatch), the active tiles of
// the higher factors (update), and everything outside the segment.
inline void poison(const GemmOCase& c, GemmOData& data) {
  const SymbolGeometry& g = c.geometry;
  const reference::BlockMask mask = to_block_mask(data.symbols);
  for (int b = 0; b < g.batch; ++b) {
    for (int n = 0; n < g.q_tokens; ++n) {
      const std::ptrdiff_t token = static_cast<std::ptrdiff_t>(b) * g.q_tokens + n;
      const bool outside = n < c.token_offset || n >= c.token_offset + c.rows;
      for (int h = 0; h < g.heads; ++h) {
        const bool active = !c.sparse || mask.computes(b, h, n);
        for (size_t m = 0; m < data.factors.size(); ++m) {
          const bool unused = m == 0 ? !c.update && !active : active;
          if (!outside && !unused) continue;
          std::fill_n(data.factors[m].begin() + (token * g.heads + h) * c.head_dim, c.head_dim,
                      kNan);
        }
      }
      if (!outside) continue;
      for (auto& plane : data.planes) std::fill_n(plane.begin() + token * c.width, c.width, kNan);
    }
  }
}

struct GemmOOutcome {
  Status status;
  Output out, residual;
  std::vector<Output> planes;  // update form only
  std::string damage;
};

inline GemmOOutcome run(Backend& backend, const GemmOCase& c, const GemmOData& data) {
  const SymbolGeometry& g = c.geometry;
  const std::vector<int64_t> feature_shape = {g.batch, g.q_tokens, g.heads, c.head_dim};
  const std::vector<int64_t> plane_shape = {g.batch, g.q_tokens, c.width};
  const std::vector<int64_t> out_shape = {g.batch, c.rows, c.width};
  const auto weight = pack(backend, data.layer, 0, c.placement);
  GuardTensor mlp, out, residual, gate;
  if (c.mlp_features) {
    mlp = GuardTensor(backend, c.dtype, {g.batch, c.rows, c.mlp_features}, data.mlp, c.placement);
  }
  if (c.out) out = GuardTensor(backend, c.dtype, out_shape, c.placement);
  if (c.residual) residual = GuardTensor(backend, c.dtype, out_shape, data.residual, c.placement);
  if (c.gate) gate = GuardTensor(backend, DType::kF32, {g.batch, c.width}, data.gate, c.placement);
  std::vector<GuardTensor> factors, planes;
  for (const auto& factor : data.factors) {
    factors.emplace_back(backend, c.dtype, feature_shape, factor, c.placement);
  }
  if (c.sparse) {
    for (const auto& plane : data.planes) {
      planes.emplace_back(backend, c.dtype, plane_shape, c.placement);
      if (!c.update) planes.back().write(plane);
    }
  }
  GuardedSymbols symbols;
  if (c.sparse) symbols = GuardedSymbols(backend, data.symbols);

  GemmOUpdateParams params;
  GemmOParams& base = params.base;
  if (!c.update) base.attn = factors[0].view();
  base.mlp = mlp.view();
  base.weight = weight.get();
  base.token_offset = c.token_offset;
  base.rows = c.rows;
  base.out = out.view();
  base.residual = residual.view();
  base.gate = gate.view();
  base.symbols = symbols.view();
  base.plan = symbols.make_plan();
  base.num_planes = static_cast<int>(planes.size());
  for (size_t m = 0; m < planes.size(); ++m) {
    base.planes[m] = planes[m].view();
    base.coefficients[m] = static_cast<float>(data.coefficients[m]);
    if (c.update) params.factors[m] = factors[m].view();
  }

  GemmOOutcome outcome;
  outcome.status = c.update ? backend.supports(params) : backend.supports(base);
  const GuardBuffer workspace(backend, outcome.status.ok() ? backend.workspace_bytes(base) : 0);
  const Exec exec{nullptr, workspace.data(), workspace.bytes()};
  const Status done = c.update ? backend.gemm_o_update(exec, params) : backend.gemm_o(exec, base);
  EXPECT_EQ(done.ok(), outcome.status.ok())
      << "supports() and the operation disagree: " << done.to_string();
  outcome.out = out.read();
  outcome.residual = residual.read();
  outcome.damage = mlp.damage() + out.damage() + residual.damage() + gate.damage() +
                   symbols.damage() + workspace.damage();
  for (const GuardTensor& factor : factors) outcome.damage += factor.damage();
  for (const GuardTensor& plane : planes) {
    outcome.damage += plane.damage();
    if (c.update) outcome.planes.push_back(plane.read());
  }
  return outcome;
}

template <class Real>
std::vector<std::vector<Real>> as_real(const std::vector<std::vector<double>>& values) {
  std::vector<std::vector<Real>> result;
  for (const auto& v : values) result.emplace_back(v.begin(), v.end());
  return result;
}

template <class Real>
reference::GemmOInput<Real> oracle_input(const GemmOCase& c, const GemmOData& data,
                                         const reference::BlockMask* mask) {
  reference::GemmOInput<Real> in;
  in.batch = c.geometry.batch;
  in.tokens = c.geometry.q_tokens;
  in.rows = c.rows;
  in.token_offset = c.token_offset;
  in.heads = c.geometry.heads;
  in.head_dim = c.head_dim;
  in.mlp_features = c.mlp_features;
  in.width = c.width;
  in.attn.assign(data.factors[0].begin(), data.factors[0].end());
  in.mlp.assign(data.mlp.begin(), data.mlp.end());
  in.weight.assign(data.layer.weight.begin(), data.layer.weight.end());
  in.bias.assign(data.layer.bias.begin(), data.layer.bias.end());
  in.mask = mask;
  in.planes = as_real<Real>(data.planes);
  in.coefficients = data.coefficients;
  return in;
}

// What an oracle run in one arithmetic says about every output.
template <class Real>
struct GemmOValues {
  std::vector<Real> out, residual;
  std::vector<std::vector<Real>> planes;
};

template <class Real>
GemmOValues<Real> oracle(const GemmOCase& c, const GemmOData& data) {
  const reference::BlockMask mask = to_block_mask(data.symbols);
  const reference::GemmOInput<Real> in = oracle_input<Real>(c, data, c.sparse ? &mask : nullptr);
  GemmOValues<Real> values;
  if (c.update) {
    const size_t plane_size = static_cast<size_t>(in.batch) * in.tokens * in.width;
    values.planes.assign(data.factors.size(),
                         std::vector<Real>(plane_size, static_cast<Real>(kNan)));
    values.out = reference::gemm_o_update(in, as_real<Real>(data.factors), values.planes);
  } else {
    values.out = reference::gemm_o(in);
  }
  if (c.residual) {
    const std::vector<Real> residual(data.residual.begin(), data.residual.end());
    const std::vector<Real> gate(data.gate.begin(), data.gate.end());
    values.residual = reference::add_gated(in.batch, in.rows, in.width, residual, gate, values.out);
  }
  return values;
}

// The same case with every number positive: sums of sizes instead of sizes of sums.
inline GemmOData absolute(GemmOData data) {
  for (auto& factor : data.factors) factor = absolute(factor);
  for (auto& plane : data.planes) plane = absolute(plane);
  data.mlp = absolute(data.mlp);
  data.residual = absolute(data.residual);
  data.gate = absolute(data.gate);
  data.layer.weight = absolute(data.layer.weight);
  data.layer.bias = absolute(data.layer.bias);
  return data;
}

struct GemmOTruth {
  Expected out, residual;
  std::vector<Expected> planes;  // update form only
};

inline GemmOTruth make_truth(const GemmOCase& c, const GemmOData& data) {
  const GemmOValues<double> truth = oracle<double>(c, data);
  const GemmOValues<float> naive = oracle<float>(c, data);
  const GemmOValues<double> size = oracle<double>(c, absolute(data));
  const auto bound = [&](const std::vector<double>& t, const std::vector<float>& n,
                         const std::vector<double>& s) {
    return within(t, {.naive = to_f64(n),
                      .magnitude = s,
                      .row = c.width,
                      .slack = kSumSlack,
                      .out_dtype = c.dtype});
  };
  GemmOTruth expected;
  if (c.out) expected.out = bound(truth.out, naive.out, size.out);
  if (c.residual) expected.residual = bound(truth.residual, naive.residual, size.residual);
  for (size_t m = 0; m < truth.planes.size(); ++m) {
    expected.planes.push_back(bound(truth.planes[m], naive.planes[m], size.planes[m]));
  }
  return expected;
}

inline testing::AssertionResult check(const GemmOOutcome& outcome, const GemmOTruth& truth) {
  if (auto out = compare(outcome.out, truth.out); !out) return out << " in out";
  if (auto r = compare(outcome.residual, truth.residual); !r) return r << " in residual";
  for (size_t m = 0; m < truth.planes.size(); ++m) {
    auto plane = compare(outcome.planes.at(m), truth.planes[m]);
    if (!plane) return plane << " in plane " << m;
  }
  return testing::AssertionSuccess();
}

}  // namespace flashomni::testkit

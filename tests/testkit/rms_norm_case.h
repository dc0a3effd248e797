// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm over all heads with RoPE, of any backend, against the oracle.
#pragma once

#include <string>
#include <vector>

#include "reference/gemm_q.h"
#include "reference/norm.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/guard_buffer.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {

struct RmsNormCase {
  uint64_t seed = 0;
  DType dtype = DType::kF32;
  int batch = 1, tokens = 1, heads = 1, head_dim = 2;
  bool rope = true;
  float eps = 1e-6f;
  Placement placement;

  std::string text() const {
    return "rms_norm seed=" + std::to_string(seed) + " b=" + std::to_string(batch) +
           " n=" + std::to_string(tokens) + " h=" + std::to_string(heads) +
           " d=" + std::to_string(head_dim) + (rope ? " rope " : " ") + dtype_name(dtype) + " " +
           placement_text(placement);
  }
};

inline RmsNormCase random_rms_norm_case(uint64_t seed, DType dtype) {
  Rng rng(seed);
  RmsNormCase c{.seed = seed, .dtype = dtype};
  c.batch = rng.range(1, 2);
  c.tokens = pick<int>(rng, {1, 2, 3, 17, 70});
  c.heads = pick<int>(rng, {1, 2, 3, 12, 40});
  c.head_dim = pick<int>(rng, {2, 10, 12, 64, 128});
  c.rope = rng.coin(0.7);
  c.eps = pick<float>(rng, {1e-6f, 1e-5f});
  c.placement = pick_placement(rng);
  return c;
}

struct RmsNormData {
  std::vector<double> x, weight, cos, sin;
};

inline RmsNormData make_data(const RmsNormCase& c) {
  Rng rng(c.seed + 1);
  const int64_t width = int64_t{1} * c.heads * c.head_dim;
  RmsNormData data;
  data.x = rounded_to(c.dtype, outlier_values(rng, c.batch * c.tokens * width));
  data.weight = rounded_to(DType::kF32, normal_values(rng, width));
  if (!c.rope) return data;
  for (double angle : normal_values(rng, int64_t{1} * c.tokens * c.head_dim / 2)) {
    data.cos.push_back(std::cos(10 * angle));
    data.sin.push_back(std::sin(10 * angle));
  }
  data.cos = rounded_to(DType::kF32, data.cos);
  data.sin = rounded_to(DType::kF32, data.sin);
  return data;
}

template <class Real>
std::vector<Real> run_reference(const RmsNormCase& c, const RmsNormData& data) {
  auto cast = [](const std::vector<double>& v) { return std::vector<Real>(v.begin(), v.end()); };
  std::vector<Real> x = cast(data.x);
  const std::vector<Real> weight = cast(data.weight), cos = cast(data.cos), sin = cast(data.sin);
  const int width = c.heads * c.head_dim, pairs = c.head_dim / 2;
  for (int row = 0; row < c.batch * c.tokens; ++row) {
    Real* token = &x[size_t(row) * size_t(width)];
    reference::rms_norm(width, token, weight.data(), c.eps);
    for (int h = 0; c.rope && h < c.heads; ++h) {
      const size_t angle = size_t(row % c.tokens) * size_t(pairs);
      reference::rotate_pairs(c.head_dim, token + h * c.head_dim, &cos[angle], &sin[angle]);
    }
  }
  return x;
}

// A rotated pair is as exact as its larger half.
inline std::vector<double> pair_magnitudes(const std::vector<double>& truth) {
  std::vector<double> out(truth.size());
  for (size_t i = 0; i < truth.size(); i += 2) {
    out[i] = out[i + 1] = std::abs(truth[i]) + std::abs(truth[i + 1]);
  }
  return out;
}

inline Expected expected_result(const RmsNormCase& c, const RmsNormData& data) {
  const std::vector<double> truth = run_reference<double>(c, data);
  return within(truth, {.naive = to_f64(run_reference<float>(c, data)),
                        .magnitude = pair_magnitudes(truth),
                        .row = int64_t{1} * c.heads * c.head_dim,
                        .slack = kNormSlack,
                        .out_dtype = c.dtype});
}

inline Output run(Backend& backend, const RmsNormCase& c, const RmsNormData& data) {
  const int64_t half = c.head_dim / 2;
  const GuardTensor x(backend, c.dtype, {c.batch, c.tokens, c.heads, c.head_dim}, data.x,
                      c.placement);
  const GuardTensor weight(backend, DType::kF32, {int64_t{1} * c.heads * c.head_dim}, data.weight);
  GuardTensor cos, sin;
  if (c.rope) {
    cos = GuardTensor(backend, DType::kF32, {c.tokens, half}, data.cos, c.placement);
    sin = GuardTensor(backend, DType::kF32, {c.tokens, half}, data.sin, c.placement);
  }
  const Status done = backend.rms_norm(
      {}, {.x = x.view(), .weight = weight.view(), .eps = c.eps, .rope = {cos.view(), sin.view()}});
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_EQ(x.damage(), "");
  return x.read();
}

}  // namespace flashomni::testkit

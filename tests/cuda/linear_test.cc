// SPDX-License-Identifier: Apache-2.0
//
// The dense Linear layer (activation, output, gated residual) and the modulated LayerNorm of the
// CUDA backend against the oracle.
#include "reference/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "reference/norm.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/packed.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

template <class Real>
std::vector<Real> as(const std::vector<double>& values) {
  return std::vector<Real>(values.begin(), values.end());
}

template <class Real>
std::vector<Real> activate(Activation activation, std::vector<Real> x) {
  switch (activation) {
    case Activation::kGeluTanh:
      return reference::gelu_tanh(std::move(x));
    case Activation::kSilu:
      return reference::silu(std::move(x));
    case Activation::kNone:
      break;
  }
  return x;
}

struct LinearCase {
  uint64_t seed = 0;
  int batch = 1;
  int rows = 0;
  bool matrix = false;  // x is [M, K], without a batch dimension
  int in_features = 0;
  int out_features = 0;
  DType dtype = DType::kBF16;  // of x, out and residual
  DType weight_dtype = DType::kF32;
  Activation activation = Activation::kNone;
  bool bias = true, out = true, residual = false, gate = false;
  Placement placement;

  std::string text() const {
    std::ostringstream s;
    s << "linear seed=" << seed << " b=" << batch << " m=" << rows << (matrix ? " matrix" : "")
      << " k=" << in_features << " out=" << out_features << " x=" << dtype_name(dtype)
      << " w=" << dtype_name(weight_dtype) << " activation=" << static_cast<int>(activation)
      << (bias ? " bias" : "") << (out ? " out" : "") << (residual ? " residual" : "")
      << (gate ? " gate" : "") << " " << placement_text(placement);
    return s.str();
  }
};

LinearCase random_linear_case(uint64_t seed) {
  Rng rng(seed);
  LinearCase c;
  c.seed = seed;
  c.matrix = rng.coin(0.2);
  c.batch = c.matrix ? 1 : rng.range(1, 2);
  c.rows = pick<int>(rng, {1, 2, 3, 5, 8, 13, 31, 61, 64, 65, 130});
  c.in_features = pick_width(rng);
  c.out_features = pick_width(rng);
  c.dtype = kFloatTypes[seed % 3];
  c.weight_dtype =
      rng.coin(0.6) ? c.dtype : pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16});
  c.activation =
      pick<Activation>(rng, {Activation::kNone, Activation::kGeluTanh, Activation::kSilu});
  c.bias = rng.coin(0.7);
  c.residual = rng.coin(0.4);
  c.out = !c.residual || rng.coin(0.5);
  c.gate = c.residual && rng.coin(0.7);
  c.placement = pick_placement(rng);
  return c;
}

struct LinearData {
  std::vector<double> x, residual, gate;
  LayerValues layer;
};

LinearData make_data(const LinearCase& c) {
  Rng rng(c.seed ^ 0x5eed);
  const int64_t rows = int64_t{1} * c.batch * c.rows;
  LinearData data;
  data.x = rounded_to(c.dtype, outlier_values(rng, rows * c.in_features));
  data.layer = make_layer(rng, c.out_features, c.in_features, c.weight_dtype, c.bias);
  if (c.residual) {
    data.residual = rounded_to(c.dtype, normal_values(rng, rows * c.out_features));
  }
  if (c.gate) {
    data.gate = rounded_to(c.dtype, normal_values(rng, int64_t{1} * c.batch * c.out_features));
  }
  return data;
}

struct LinearOutcome {
  Output out, residual;
};

LinearOutcome run(Backend& backend, const LinearCase& c, const LinearData& data) {
  const auto shape = [&](int64_t features) {
    if (c.matrix) return std::vector<int64_t>{c.rows, features};
    return std::vector<int64_t>{c.batch, c.rows, features};
  };
  const GuardTensor x(backend, c.dtype, shape(c.in_features), data.x, c.placement);
  const auto weight = pack(backend, data.layer, 0, c.placement);
  GuardTensor out, residual, gate;
  if (c.out) out = GuardTensor(backend, c.dtype, shape(c.out_features), c.placement);
  if (c.residual) {
    residual = GuardTensor(backend, c.dtype, shape(c.out_features), data.residual, c.placement);
  }
  if (c.gate)
    gate = GuardTensor(backend, c.dtype, {c.batch, c.out_features}, data.gate, c.placement);
  const LinearParams params{.x = x.view(),
                            .weight = weight.get(),
                            .activation = c.activation,
                            .out = out.view(),
                            .residual = residual.view(),
                            .gate = gate.view()};
  const Status supported = backend.supports(params);
  EXPECT_TRUE(supported.ok()) << supported.to_string();
  const GuardBuffer workspace(backend, backend.workspace_bytes(params));
  const Status done = backend.linear({nullptr, workspace.data(), workspace.bytes()}, params);
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_EQ(x.damage() + out.damage() + residual.damage() + gate.damage() + workspace.damage(), "");
  return {out.read(), residual.read()};
}

// `stored`: the type in which the naive run keeps the product and y.
template <class Real>
std::pair<std::vector<Real>, std::vector<Real>> oracle(const LinearCase& c, const LinearData& d,
                                                       DType stored) {
  const auto store = [&](const std::vector<Real>& v) {
    if (stored == DType::kF64) return v;
    return as<Real>(rounded_to(stored, std::vector<double>(v.begin(), v.end())));
  };
  const auto y = store(activate(
      c.activation,
      store(reference::linear(c.batch * c.rows, c.in_features, c.out_features, as<Real>(d.x),
                              as<Real>(d.layer.weight), as<Real>(d.layer.bias)))));
  if (!c.residual) return {y, {}};
  return {y, reference::add_gated(c.batch, c.rows, c.out_features, as<Real>(d.residual),
                                  as<Real>(d.gate), y)};
}

struct LinearTruth {
  Expected out, residual;
};

LinearTruth make_truth(const LinearCase& c, const LinearData& data) {
  const auto [out, residual] = oracle<double>(c, data, DType::kF64);
  const auto [naive_out, naive_residual] = oracle<float>(c, data, c.dtype);
  // Both activations have slopes of at most 1.13, so they carry an error through as it is.
  LinearCase plain = c;
  plain.activation = Activation::kNone;
  LinearData positive = data;
  for (auto* v : {&positive.x, &positive.residual, &positive.gate, &positive.layer.weight,
                  &positive.layer.bias}) {
    *v = absolute(*v);
  }
  const auto [size_out, size_residual] = oracle<double>(plain, positive, DType::kF64);
  const double slack = c.activation == Activation::kNone ? kSumSlack : kActivationSlack;
  LinearTruth truth;
  if (c.out) {
    truth.out = within(out, {.naive = to_f64(naive_out),
                             .magnitude = size_out,
                             .row = c.out_features,
                             .slack = slack,
                             .out_dtype = c.dtype});
  }
  if (c.residual) {
    truth.residual = within(residual, {.naive = to_f64(naive_residual),
                                       .magnitude = size_residual,
                                       .row = c.out_features,
                                       .slack = slack,
                                       .out_dtype = c.dtype});
    // y is rounded to the element type before the gate and the sum.
    for (size_t i = 0; i < residual.size(); ++i) {
      truth.residual.allowed[i] +=
          unit_roundoff(c.dtype) * std::abs(residual[i] - data.residual[i]);
    }
  }
  return truth;
}

testing::AssertionResult check(const LinearOutcome& outcome, const LinearTruth& truth) {
  if (auto out = compare(outcome.out, truth.out); !out) return out << " in out";
  if (auto r = compare(outcome.residual, truth.residual); !r) return r << " in residual";
  return testing::AssertionSuccess();
}

void expect_right(Backend& backend, const LinearCase& c) {
  SCOPED_TRACE(c.text());
  const LinearData data = make_data(c);
  EXPECT_TRUE(check(run(backend, c, data), make_truth(c, data)));
}

class CudaLinear : public CudaTest {};

TEST_F(CudaLinear, MatchesTheOracle) {
  for (uint64_t seed = 300000; seed < 300090; ++seed) {
    expect_right(backend(), random_linear_case(seed));
  }
}

// Sizes that cuBLASLt takes with its tensor cores, and every way to end.
TEST_F(CudaLinear, LargerSizes) {
  uint64_t seed = 300100;
  for (const DType dtype : kFloatTypes) {
    for (int ending = 0; ending < 6; ++ending) {
      LinearCase c;
      c.seed = ++seed;
      c.batch = 1 + ending % 2;
      c.rows = 270;
      c.in_features = 768;
      c.out_features = 328;
      c.dtype = c.weight_dtype = dtype;
      c.activation = ending < 2   ? Activation::kNone
                     : ending < 4 ? Activation::kGeluTanh
                                  : Activation::kSilu;
      c.residual = ending != 2;
      c.out = ending != 0 && ending != 4;
      c.gate = ending >= 3;
      expect_right(backend(), c);
    }
  }
}

TEST_F(CudaLinear, TwoRunsGiveTheSameBits) {
  LinearCase c;
  c.seed = 301000;
  c.rows = 300;
  c.in_features = 1024;
  c.out_features = 512;
  c.weight_dtype = c.dtype;
  const LinearData data = make_data(c);
  const LinearOutcome first = run(backend(), c, data);
  EXPECT_TRUE(same_bits(run(backend(), c, data).out, first.out));
}

// Few rows and a long depth: there cuBLASLt splits the depth, and parts that are added in the order
// in which they come would change the last bits from run to run.
TEST_F(CudaLinear, SplitSumsRepeatBitForBit) {
  uint64_t seed = 301100;
  for (const int rows : {77, 333}) {
    for (const auto& [in_features, out_features] :
         {std::pair{4096, 3072}, std::pair{12288, 1536}}) {
      LinearCase c;
      c.seed = ++seed;
      c.rows = rows;
      c.in_features = in_features;
      c.out_features = out_features;
      c.weight_dtype = c.dtype;
      SCOPED_TRACE(c.text());
      const LinearData data = make_data(c);
      const LinearOutcome first = run(backend(), c, data);
      int different = 0;
      for (int i = 0; i < 30; ++i) different += !same_bits(run(backend(), c, data).out, first.out);
      EXPECT_EQ(different, 0) << "of 30 runs";
    }
  }
}

TEST_F(CudaLinear, WrongInputsAreCaught) {
  LinearCase c;
  c.seed = 302000;
  c.batch = 2;
  c.rows = 37;
  c.in_features = 65;
  c.out_features = 33;
  c.dtype = DType::kF32;
  c.activation = Activation::kGeluTanh;
  c.residual = c.gate = true;
  const LinearData data = make_data(c);
  const LinearTruth truth = make_truth(c, data);
  EXPECT_TRUE(check(run(backend(), c, data), truth));

  LinearData wrong = data;
  wrong.layer.weight[17 * 65 + 64] += 0.01;
  EXPECT_FALSE(check(run(backend(), c, wrong), truth));
  wrong = data;
  wrong.layer.bias[32] += 0.001;
  EXPECT_FALSE(check(run(backend(), c, wrong), truth));
  wrong = data;
  std::swap_ranges(wrong.gate.begin(), wrong.gate.begin() + 33, wrong.gate.begin() + 33);
  EXPECT_FALSE(check(run(backend(), c, wrong), truth));
  c.activation = Activation::kSilu;
  EXPECT_FALSE(check(run(backend(), c, data), truth));
}

TEST_F(CudaLinear, NormModulateMatchesTheOracle) {
  for (uint64_t seed = 310000; seed < 310060; ++seed) {
    Rng rng(seed);
    const DType dtype = kFloatTypes[seed % 3];
    const int batch = rng.range(1, 2);
    const int rows = rng.range(1, 20);
    const int width = rng.coin(0.3) ? pick<int>(rng, {1030, 1032, 3072, 8200}) : pick_width(rng);
    const double offset = pick<double>(rng, {0, 0, 3, 50});  // a mean far from zero
    const float eps = pick<float>(rng, {1e-6f, 1e-5f});
    const Placement placement = pick_placement(rng);
    std::vector<double> x = outlier_values(rng, int64_t{1} * batch * rows * width);
    for (double& v : x) v += offset;
    x = rounded_to(dtype, x);
    const auto scale = rounded_to(dtype, normal_values(rng, int64_t{1} * batch * width));
    const auto shift = rounded_to(dtype, normal_values(rng, int64_t{1} * batch * width));

    const std::vector<double> truth =
        reference::norm_modulate(batch, rows, width, x, scale, shift, eps);
    const std::vector<float> naive = reference::norm_modulate(
        batch, rows, width, as<float>(x), as<float>(scale), as<float>(shift), eps);
    // Rounding the mean costs |x| ulp, which the division by the deviation enlarges.
    std::vector<double> magnitude(truth.size());
    for (int row = 0; row < batch * rows; ++row) {
      const auto first = x.begin() + static_cast<std::ptrdiff_t>(row) * width;
      double largest = 0, mean = 0, variance = 0;
      std::for_each(first, first + width, [&](double v) {
        largest = std::max(largest, std::abs(v));
        mean += v / width;
      });
      std::for_each(first, first + width,
                    [&](double v) { variance += (v - mean) * (v - mean) / width; });
      for (int i = 0; i < width; ++i) {
        const size_t channel = static_cast<size_t>(row / rows) * width + i;
        magnitude[static_cast<size_t>(row) * width + i] =
            2 * largest / std::sqrt(variance + eps) * (1 + std::abs(scale[channel])) +
            std::abs(shift[channel]);
      }
    }
    const Expected expected = within(truth, {.naive = to_f64(naive),
                                             .magnitude = magnitude,
                                             .row = width,
                                             .slack = kNormSlack,
                                             .out_dtype = dtype});
    {
      SCOPED_TRACE("norm_modulate seed=" + std::to_string(seed) + " b=" + std::to_string(batch) +
                   " m=" + std::to_string(rows) + " d=" + std::to_string(width) +
                   " offset=" + std::to_string(offset) + " " + placement_text(placement) + " " +
                   dtype_name(dtype));
      Backend& gpu = backend();
      const std::vector<int64_t> shape = {batch, rows, width};
      const GuardTensor x_tensor(gpu, dtype, shape, x, placement);
      const GuardTensor scale_tensor(gpu, dtype, {batch, width}, scale, placement);
      const GuardTensor shift_tensor(gpu, dtype, {batch, width}, shift, placement);
      const GuardTensor out(gpu, dtype, shape, placement);
      const Status done = gpu.norm_modulate({}, {.x = x_tensor.view(),
                                                 .scale = scale_tensor.view(),
                                                 .shift = shift_tensor.view(),
                                                 .out = out.view(),
                                                 .eps = eps});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(x_tensor.damage() + out.damage(), "");
      EXPECT_TRUE(compare(out.read(), expected));
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
//
// The dense Linear layer (activation, output, gated residual) and the modulated LayerNorm of the
// CPU backend against the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "reference/linear.h"
#include "reference/norm.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/cpu_backends.h"
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
  DType weight_dtype = DType::kF32;
  DType x_values = DType::kF32;  // a type that holds all values of x exactly
  Activation activation = Activation::kNone;
  bool bias = true, out = true, residual = false, gate = false;
  Placement placement;

  std::string text() const {
    std::ostringstream s;
    s << "linear seed=" << seed << " b=" << batch << " m=" << rows << (matrix ? " matrix" : "")
      << " k=" << in_features << " out=" << out_features << " w=" << dtype_name(weight_dtype)
      << " activation=" << static_cast<int>(activation) << (bias ? " bias" : "")
      << (out ? " out" : "") << (residual ? " residual" : "") << (gate ? " gate" : "") << " "
      << placement_text(placement);
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
  c.weight_dtype = pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16});
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
  data.x = rounded_to(c.x_values, outlier_values(rng, rows * c.in_features));
  data.layer = make_layer(rng, c.out_features, c.in_features, c.weight_dtype, c.bias);
  if (c.residual) {
    data.residual = rounded_to(DType::kF32, normal_values(rng, rows * c.out_features));
  }
  if (c.gate) {
    data.gate = rounded_to(DType::kF32, normal_values(rng, int64_t{1} * c.batch * c.out_features));
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
  const DType f32 = DType::kF32;
  const GuardTensor x(backend, f32, shape(c.in_features), data.x, c.placement);
  const auto weight = pack(backend, data.layer, 0, c.placement);
  GuardTensor out, residual, gate;
  if (c.out) out = GuardTensor(backend, f32, shape(c.out_features), c.placement);
  if (c.residual) {
    residual = GuardTensor(backend, f32, shape(c.out_features), data.residual, c.placement);
  }
  if (c.gate) gate = GuardTensor(backend, f32, {c.batch, c.out_features}, data.gate, c.placement);
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

template <class Real>
std::pair<std::vector<Real>, std::vector<Real>> oracle(const LinearCase& c, const LinearData& d) {
  const auto y =
      activate(c.activation,
               reference::linear(c.batch * c.rows, c.in_features, c.out_features, as<Real>(d.x),
                                 as<Real>(d.layer.weight), as<Real>(d.layer.bias)));
  if (!c.residual) return {y, {}};
  return {y, reference::add_gated(c.batch, c.rows, c.out_features, as<Real>(d.residual),
                                  as<Real>(d.gate), y)};
}

struct LinearTruth {
  Expected out, residual;
};

LinearTruth make_truth(const LinearCase& c, const LinearData& data) {
  const auto [out, residual] = oracle<double>(c, data);
  const auto [naive_out, naive_residual] = oracle<float>(c, data);
  // Both activations have slopes of at most 1.13, so they carry an error through as it is.
  LinearCase plain = c;
  plain.activation = Activation::kNone;
  LinearData positive = data;
  for (auto* v : {&positive.x, &positive.residual, &positive.gate, &positive.layer.weight,
                  &positive.layer.bias}) {
    *v = absolute(*v);
  }
  const auto [size_out, size_residual] = oracle<double>(plain, positive);
  const double slack = c.activation == Activation::kNone ? kSumSlack : kActivationSlack;
  LinearTruth truth;
  if (c.out) {
    truth.out = within(
        out,
        {.naive = to_f64(naive_out), .magnitude = size_out, .row = c.out_features, .slack = slack});
  }
  if (c.residual) {
    truth.residual = within(residual, {.naive = to_f64(naive_residual),
                                       .magnitude = size_residual,
                                       .row = c.out_features,
                                       .slack = slack});
  }
  return truth;
}

testing::AssertionResult check(const LinearOutcome& outcome, const LinearTruth& truth) {
  if (auto out = compare(outcome.out, truth.out); !out) return out << " in out";
  if (auto r = compare(outcome.residual, truth.residual); !r) return r << " in residual";
  return testing::AssertionSuccess();
}

void expect_right(const LinearCase& c, const std::vector<std::string>& isas) {
  const LinearData data = make_data(c);
  const LinearTruth truth = make_truth(c, data);
  for (const std::string& isa : isas) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    EXPECT_TRUE(check(run(cpu_backend(isa), c, data), truth));
  }
}

void expect_right(const LinearCase& c) {
  expect_right(c, cpu_isas());
  if (bf16_isas().empty()) return;
  LinearCase narrow = c;
  narrow.x_values = narrow.weight_dtype = DType::kBF16;
  expect_right(narrow, bf16_isas());
}

TEST(LinearProperty, MatchesTheOracle) {
  for (uint64_t seed = 300000; seed < 300080; ++seed) expect_right(random_linear_case(seed));
}

// More rows, features and columns than a task holds at a time; power-of-two strides among them.
TEST(LinearProperty, LargerThanOneTask) {
  uint64_t seed = 300100;
  for (int in_features : {256, 600, 768}) {
    LinearCase c;
    c.seed = ++seed;
    c.rows = 270;
    c.in_features = in_features;
    c.out_features = in_features == 600 ? 290 : 256;
    c.weight_dtype = DType::kBF16;
    c.residual = c.gate = true;
    expect_right(c);
  }
}

TEST(LinearProperty, ThreadCountDoesNotChangeABit) {
  for (uint64_t seed = 301000; seed < 301010; ++seed) {
    const LinearCase c = random_linear_case(seed);
    const LinearData data = make_data(c);
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const LinearOutcome one = run(cpu_backend(isa, 1), c, data);
      for (int threads : {2, 4}) {
        const LinearOutcome more = run(cpu_backend(isa, threads), c, data);
        EXPECT_TRUE(same_bits(more.out, one.out)) << threads << " threads";
        EXPECT_TRUE(same_bits(more.residual, one.residual)) << threads << " threads";
      }
    }
  }
}

TEST(LinearControl, WrongInputsAreCaught) {
  LinearCase c;
  c.seed = 302000;
  c.batch = 2;
  c.rows = 37;
  c.in_features = 65;
  c.out_features = 33;
  c.activation = Activation::kGeluTanh;
  c.residual = c.gate = true;
  const LinearData data = make_data(c);
  const LinearTruth truth = make_truth(c, data);
  EXPECT_TRUE(check(run(cpu_backend(), c, data), truth));

  LinearData wrong = data;
  wrong.layer.weight[17 * 65 + 64] += 0.01;
  EXPECT_FALSE(check(run(cpu_backend(), c, wrong), truth));
  wrong = data;
  wrong.layer.bias[32] += 0.001;
  EXPECT_FALSE(check(run(cpu_backend(), c, wrong), truth));
  wrong = data;
  std::swap_ranges(wrong.gate.begin(), wrong.gate.begin() + 33, wrong.gate.begin() + 33);
  EXPECT_FALSE(check(run(cpu_backend(), c, wrong), truth));
  c.activation = Activation::kSilu;
  EXPECT_FALSE(check(run(cpu_backend(), c, data), truth));
}

TEST(NormModulateProperty, MatchesTheOracle) {
  for (uint64_t seed = 310000; seed < 310040; ++seed) {
    Rng rng(seed);
    const int batch = rng.range(1, 2);
    const int rows = rng.range(1, 20);
    const int width = rng.coin(0.2) ? 1030 : pick_width(rng);
    const double offset = pick<double>(rng, {0, 0, 3, 50});  // a mean far from zero
    const float eps = pick<float>(rng, {1e-6f, 1e-5f});
    const Placement placement = pick_placement(rng);
    std::vector<double> x = outlier_values(rng, int64_t{1} * batch * rows * width);
    for (double& v : x) v += offset;
    x = rounded_to(DType::kF32, x);
    const auto scale = rounded_to(DType::kF32, normal_values(rng, int64_t{1} * batch * width));
    const auto shift = rounded_to(DType::kF32, normal_values(rng, int64_t{1} * batch * width));

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
    const Expected expected = within(
        truth, {.naive = to_f64(naive), .magnitude = magnitude, .row = width, .slack = kNormSlack});
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE("norm_modulate seed=" + std::to_string(seed) + " b=" + std::to_string(batch) +
                   " m=" + std::to_string(rows) + " d=" + std::to_string(width) + " offset=" +
                   std::to_string(offset) + " " + placement_text(placement) + " isa=" + isa);
      Backend& backend = cpu_backend(isa);
      const std::vector<int64_t> shape = {batch, rows, width};
      const GuardTensor x_tensor(backend, DType::kF32, shape, x, placement);
      const GuardTensor scale_tensor(backend, DType::kF32, {batch, width}, scale, placement);
      const GuardTensor shift_tensor(backend, DType::kF32, {batch, width}, shift, placement);
      const GuardTensor out(backend, DType::kF32, shape, placement);
      const Status done = backend.norm_modulate({}, {.x = x_tensor.view(),
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

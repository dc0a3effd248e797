// SPDX-License-Identifier: Apache-2.0
//
// Activation, combine, copy and the Taylor cache of the CPU backend against the oracle, with
// strided tensors and in place where the contract allows it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "reference/linear.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;

// 1 to 4 dimensions, the last one around a vector width.
std::vector<int64_t> random_shape(Rng& rng) {
  std::vector<int64_t> shape;
  for (int i = rng.range(0, 3); i > 0; --i) shape.push_back(rng.range(1, 4));
  shape.push_back(pick_width(rng));
  return shape;
}

TEST(ActivationProperty, MatchesTheOracle) {
  for (uint64_t seed = 400000; seed < 400030; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const Placement placement = pick_placement(rng);
    const bool gelu = rng.coin(0.5);
    const bool in_place = rng.coin(0.3);
    std::vector<double> x = outlier_values(rng, count(shape), 3);
    if (seed % 3 == 0) x[0] = pick<double>(rng, {0, -100, 100, -1e4, 1e4, 1e-30});
    x = rounded_to(kF32, x);
    const std::vector<float> x32 = to_f32(x);
    const std::vector<double> truth = gelu ? reference::gelu_tanh(x) : reference::silu(x);
    const std::vector<float> naive = gelu ? reference::gelu_tanh(x32) : reference::silu(x32);
    const Expected expected = within(
        truth, {.naive = to_f64(naive), .magnitude = absolute(x), .slack = kActivationSlack});
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(case_text(gelu ? "gelu" : "silu", seed, shape, placement, isa));
      Backend& backend = cpu_backend(isa);
      const GuardTensor in(backend, kF32, shape, x, placement);
      const GuardTensor out(backend, kF32, shape, placement);
      const GuardTensor& result = in_place ? in : out;
      const Status done =
          backend.activation({}, {.x = in.view(),
                                  .activation = gelu ? Activation::kGeluTanh : Activation::kSilu,
                                  .out = result.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(in.damage() + out.damage(), "");
      EXPECT_TRUE(compare(result.read(), expected));
    }
  }
}

TEST(CombineProperty, MatchesTheSum) {
  for (uint64_t seed = 410000; seed < 410040; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const Placement placement = pick_placement(rng);
    const int terms = rng.range(1, 3);
    const bool in_place = rng.coin(0.3);
    const float factor[3] = {static_cast<float>(rng.normal()), static_cast<float>(rng.normal()),
                             static_cast<float>(rng.normal())};
    std::vector<double> input[3], truth(static_cast<size_t>(count(shape))), size(truth.size());
    for (int t = 0; t < terms; ++t) {
      input[t] = rounded_to(kF32, outlier_values(rng, count(shape)));
      for (size_t i = 0; i < truth.size(); ++i) {
        truth[i] += factor[t] * input[t][i];
        size[i] += std::abs(factor[t] * input[t][i]);
      }
    }
    const Expected expected =
        within(truth, {.naive = truth, .magnitude = size, .slack = kSumSlack});
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(case_text("combine", seed, shape, placement, isa));
      Backend& backend = cpu_backend(isa);
      GuardTensor x(backend, kF32, shape, input[0], placement), y, z;
      if (terms > 1) y = GuardTensor(backend, kF32, shape, input[1], placement);
      if (terms > 2) z = GuardTensor(backend, kF32, shape, input[2], placement);
      const GuardTensor out(backend, kF32, shape, placement);
      const GuardTensor& result = in_place ? x : out;
      const Status done = backend.combine({}, {.x = x.view(),
                                               .y = y.view(),
                                               .z = z.view(),
                                               .a = factor[0],
                                               .b = factor[1],
                                               .c = factor[2],
                                               .out = result.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(x.damage() + y.damage() + z.damage() + out.damage(), "");
      EXPECT_TRUE(compare(result.read(), expected));
    }
  }
}

// The same view with its dimensions in reverse order.
TensorView transposed(TensorView view) {
  std::reverse(view.shape, view.shape + view.rank);
  std::reverse(view.stride, view.stride + view.rank);
  return view;
}

TEST(CopyProperty, CopiesAnyStridesAndTypesBitForBit) {
  for (uint64_t seed = 420000; seed < 420040; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const std::vector<int64_t> reversed(shape.rbegin(), shape.rend());
    const Placement placement = pick_placement(rng);
    const bool transpose = rng.coin(0.4);
    const DType dtype = pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16, DType::kU8});
    std::vector<double> values = normal_values(rng, count(shape), 20);
    for (double& v : values) v = dtype == DType::kU8 ? std::fmod(std::abs(v), 200) : v;
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(case_text("copy", seed, shape, placement, isa) + " " + dtype_name(dtype) +
                   (transpose ? " transposed" : ""));
      Backend& backend = cpu_backend(isa);
      const GuardTensor src(backend, dtype, shape, values, placement);
      const GuardTensor dst(backend, dtype, transpose ? reversed : shape, pick_placement(rng));
      const GuardTensor back(backend, dtype, shape, pick_placement(rng));
      const TensorView there = transpose ? transposed(dst.view()) : dst.view();
      const Status first = backend.copy({}, {.src = src.view(), .dst = there});
      const Status second = backend.copy({}, {.src = there, .dst = back.view()});
      EXPECT_TRUE(first.ok()) << first.to_string();
      EXPECT_TRUE(second.ok()) << second.to_string();
      EXPECT_EQ(src.damage() + dst.damage() + back.damage(), "");
      EXPECT_TRUE(same_bits(back.read(), src.read()));
      EXPECT_TRUE(transpose || same_bits(dst.read(), src.read()));
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit

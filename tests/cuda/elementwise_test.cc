// SPDX-License-Identifier: Apache-2.0
//
// Activation, combine and copy of the CUDA backend against the oracle, with strided tensors, every
// element type and in place where the contract allows it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "reference/linear.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

// 1 to 4 dimensions, the last one around a vector width.
std::vector<int64_t> random_shape(Rng& rng) {
  std::vector<int64_t> shape;
  for (int i = rng.range(0, 3); i > 0; --i) shape.push_back(rng.range(1, 4));
  // Now and then longer than the piece that one CTA takes at a time.
  shape.push_back(rng.coin(0.1) ? 2052 + 8 * rng.range(0, 300) : pick_width(rng));
  return shape;
}

// The other tensor's type mostly, and any type now and then.
DType pick_type(Rng& rng, DType other) {
  return rng.coin(0.6) ? other : kFloatTypes[rng.below(3)];
}

class CudaElementwise : public CudaTest {};

TEST_F(CudaElementwise, ActivationMatchesTheOracle) {
  for (uint64_t seed = 400000; seed < 400060; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const Placement placement = pick_placement(rng);
    const DType dtype = kFloatTypes[seed % 3], out_dtype = pick_type(rng, dtype);
    const bool gelu = rng.coin(0.5);
    const bool in_place = out_dtype == dtype && rng.coin(0.3);
    std::vector<double> x = outlier_values(rng, count(shape), 3);
    if (seed % 4 == 0) x[0] = pick<double>(rng, {0, -100, 100, -1e4, 1e4, 1e-30});
    x = rounded_to(dtype, x);
    const std::vector<float> x32 = to_f32(x);
    const std::vector<double> truth = gelu ? reference::gelu_tanh(x) : reference::silu(x);
    const std::vector<float> naive = gelu ? reference::gelu_tanh(x32) : reference::silu(x32);
    const Expected expected = within(truth, {.naive = to_f64(naive),
                                             .magnitude = absolute(x),
                                             .slack = kActivationSlack,
                                             .out_dtype = out_dtype});
    {
      SCOPED_TRACE(case_text(gelu ? "gelu" : "silu", seed, shape, placement, dtype_name(dtype)));
      Backend& gpu = backend();
      const GuardTensor in(gpu, dtype, shape, x, placement);
      const GuardTensor out(gpu, out_dtype, shape, placement);
      const GuardTensor& result = in_place ? in : out;
      const Status done =
          gpu.activation({}, {.x = in.view(),
                              .activation = gelu ? Activation::kGeluTanh : Activation::kSilu,
                              .out = result.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(in.damage() + out.damage(), "");
      EXPECT_TRUE(compare(result.read(), expected));
    }
  }
}

TEST_F(CudaElementwise, CombineMatchesTheSum) {
  for (uint64_t seed = 410000; seed < 410060; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const Placement placement = pick_placement(rng);
    const DType dtype = kFloatTypes[seed % 3], out_dtype = pick_type(rng, dtype);
    const int terms = rng.range(1, 3);
    const bool in_place = out_dtype == dtype && rng.coin(0.3);
    const float factor[3] = {static_cast<float>(rng.normal()), static_cast<float>(rng.normal()),
                             static_cast<float>(rng.normal())};
    std::vector<double> input[3], truth(static_cast<size_t>(count(shape))), size(truth.size());
    for (int t = 0; t < terms; ++t) {
      input[t] = rounded_to(dtype, outlier_values(rng, count(shape)));
      for (size_t i = 0; i < truth.size(); ++i) {
        truth[i] += factor[t] * input[t][i];
        size[i] += std::abs(factor[t] * input[t][i]);
      }
    }
    const Expected expected = within(
        truth, {.naive = truth, .magnitude = size, .slack = kSumSlack, .out_dtype = out_dtype});
    {
      SCOPED_TRACE(case_text("combine", seed, shape, placement, dtype_name(dtype)));
      Backend& gpu = backend();
      GuardTensor x(gpu, dtype, shape, input[0], placement), y, z;
      if (terms > 1) y = GuardTensor(gpu, dtype, shape, input[1], placement);
      if (terms > 2) z = GuardTensor(gpu, dtype, shape, input[2], placement);
      const GuardTensor out(gpu, out_dtype, shape, placement);
      const GuardTensor& result = in_place ? x : out;
      const Status done = gpu.combine({}, {.x = x.view(),
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

TEST_F(CudaElementwise, CopyCopiesAnyStridesAndTypesBitForBit) {
  for (uint64_t seed = 420000; seed < 420080; ++seed) {
    Rng rng(seed);
    const std::vector<int64_t> shape = random_shape(rng);
    const std::vector<int64_t> reversed(shape.rbegin(), shape.rend());
    const Placement placement = pick_placement(rng);
    const bool transpose = rng.coin(0.4);
    const DType dtype =
        pick<DType>(rng, {DType::kF32, DType::kBF16, DType::kF16, DType::kU8, DType::kF64});
    std::vector<double> values = normal_values(rng, count(shape), 20);
    for (double& v : values) v = dtype == DType::kU8 ? std::fmod(std::abs(v), 200) : v;
    {
      SCOPED_TRACE(case_text("copy", seed, shape, placement, dtype_name(dtype)) +
                   (transpose ? " transposed" : ""));
      Backend& gpu = backend();
      const GuardTensor src(gpu, dtype, shape, values, placement);
      const GuardTensor dst(gpu, dtype, transpose ? reversed : shape, pick_placement(rng));
      const GuardTensor back(gpu, dtype, shape, pick_placement(rng));
      const TensorView there = transpose ? transposed(dst.view()) : dst.view();
      const Status first = gpu.copy({}, {.src = src.view(), .dst = there});
      const Status second = gpu.copy({}, {.src = there, .dst = back.view()});
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

// SPDX-License-Identifier: Apache-2.0
//
// What the CPU backend cannot do it refuses before any work, naming what it saw.
#include <gtest/gtest.h>

#include "tests/testkit/cases.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/packed.h"

namespace flashomni::testkit {
namespace {

bool mentions(const Status& status, const std::string& word) {
  return !status.ok() && status.message().find(word) != std::string::npos;
}

TEST(Refusal, UnknownBackendsAndInstructionSets) {
  EXPECT_TRUE(mentions(make_backend("abacus").status(), "abacus"));
  EXPECT_TRUE(mentions(make_backend("cpu", {.threads = 1, .isa = "AVX9"}).status(), "AVX9"));
}

TEST(Refusal, WeightTypes) {
  Backend& backend = cpu_backend();
  const GuardTensor weight(backend, DType::kI32, {4, 4});
  EXPECT_TRUE(mentions(backend.pack_weight({.weight = weight.view()}).status(), "i32"));
}

TEST(Refusal, AttentionTypes) {
  Backend& backend = cpu_backend();
  const std::vector<int64_t> shape = {1, 8, 2, 16};
  const GuardTensor f64(backend, DType::kF64, shape), f32(backend, DType::kF32, shape),
      bf16(backend, DType::kBF16, shape);
  AttentionParams params{.q = f64.view(), .k = f64.view(), .v = f64.view(), .out = f64.view()};
  EXPECT_TRUE(mentions(backend.supports(params), "f64"));
  EXPECT_FALSE(backend.attention({}, params).ok());

  params = {.q = f32.view(), .k = bf16.view(), .v = f32.view(), .out = f32.view()};
  EXPECT_TRUE(mentions(backend.supports(params), "bf16"));
}

TEST(Refusal, ShapesThatDisagree) {
  Backend& backend = cpu_backend();
  const GuardTensor q(backend, DType::kF32, {1, 8, 2, 16}), k(backend, DType::kF32, {1, 8, 2, 24});
  const AttentionParams params{.q = q.view(), .k = k.view(), .v = k.view(), .out = q.view()};
  EXPECT_TRUE(mentions(backend.supports(params), "24")) << backend.supports(params).to_string();
}

TEST(Refusal, OddHeadDimsCannotBeRotated) {
  Backend& backend = cpu_backend();
  Rng rng(1);
  const LayerValues layer = make_layer(rng, 2 * 65, 8, DType::kF32, true);
  const auto weight = backend.pack_weight(
      {.weight = GuardTensor(backend, DType::kF32, {2 * 65, 8}, layer.weight).view(),
       .out_head_dim = 65});
  if (!weight.ok()) {
    EXPECT_TRUE(mentions(weight.status(), "65")) << weight.status().to_string();
    return;
  }
  const GuardTensor x(backend, DType::kF32, {1, 4, 8}), out(backend, DType::kF32, {1, 4, 2, 65});
  const GemmQParams params{.x = x.view(), .weight = weight->get(), .out = out.view()};
  EXPECT_TRUE(mentions(backend.supports(params), "65")) << backend.supports(params).to_string();
}

}  // namespace
}  // namespace flashomni::testkit

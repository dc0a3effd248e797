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

// Of blocks of their own length; everything else about these calls is right.
TEST(Refusal, RaggedBlocks) {
  Backend& backend = cpu_backend();
  const SymbolGeometry g = {.heads = 2,
                            .q_tokens = 40,
                            .kv_tokens = 40,
                            .block_q = 32,
                            .block_kv = 32,
                            .ragged_blocks = 4};
  const std::vector<int32_t> good = {0, 3, 35, 36, 40};
  SparseSymbols symbols(g, good);
  const GuardTensor x(backend, DType::kF32, {1, 40, 2, 16});
  std::vector<uint64_t> plan(backend.plan_bytes(g) / 8 + 1);
  AttentionParams p{.q = x.view(), .k = x.view(), .v = x.view(), .out = x.view()};
  p.symbols = symbols.view();
  p.plan = {plan.data(), plan.size() * 8};
  EXPECT_TRUE(backend.supports(p).ok()) << backend.supports(p).to_string();
  p.softmax_skip = 4;
  EXPECT_TRUE(mentions(backend.supports(p), "softmax_skip is 4"))
      << backend.supports(p).to_string();
  p.softmax_skip = 0;
  p.symbols.starts = nullptr;
  EXPECT_TRUE(mentions(backend.supports(p), "0 starts of ragged blocks, wanted 5"));
  EXPECT_FALSE(backend.plan({}, {p.symbols, p.plan}).ok());
  EXPECT_FALSE(backend.attention({}, p).ok());
  const std::vector<int32_t> bad = {0, 3, 36, 37, 40};
  p.symbols.starts = bad.data();
  EXPECT_TRUE(mentions(backend.supports(p), "starts[2] of ragged blocks is 36"));
  SymbolsView regular = symbols.view();
  regular.geometry.ragged_blocks = 0;
  p.symbols = regular;
  EXPECT_TRUE(mentions(backend.supports(p), "have starts of ragged blocks, but blocks of 32x32"));

  // Pooling.
  const GuardTensor means(backend, DType::kF32, {1, 2, 4, 16});
  PoolParams pool{.x = x.view(), .block = 32, .out = means.view(), .starts = bad.data()};
  EXPECT_TRUE(mentions(backend.pool({}, pool), "starts[2] of ragged blocks is 36"));
  pool.starts = good.data();
  EXPECT_TRUE(backend.pool({}, pool).ok());

  // What wants blocks of one size.
  Rng rng(2);
  const LayerValues layer = make_layer(rng, 32, 32, DType::kF32, false);
  const auto heads = backend.pack_weight(
      {.weight = GuardTensor(backend, DType::kF32, {32, 32}, layer.weight).view(),
       .out_head_dim = 16});
  const auto plain = backend.pack_weight(
      {.weight = GuardTensor(backend, DType::kF32, {32, 32}, layer.weight).view()});
  ASSERT_TRUE(heads.ok() && plain.ok());
  const GuardTensor rows(backend, DType::kF32, {1, 40, 32});
  GemmQParams q{.x = rows.view(), .weight = heads->get(), .out = x.view()};
  EXPECT_TRUE(backend.supports(q).ok()) << backend.supports(q).to_string();
  q.symbols = symbols.view();
  EXPECT_TRUE(mentions(backend.supports(q), "GEMM-Q with symbols of ragged blocks"));
  GemmOParams o{.attn = x.view(), .weight = plain->get(), .rows = 40, .out = rows.view()};
  EXPECT_TRUE(backend.supports(o).ok()) << backend.supports(o).to_string();
  o.symbols = symbols.view();
  EXPECT_TRUE(mentions(backend.supports(o), "GEMM-O with symbols of ragged blocks"));
  const GuardTensor scores(backend, DType::kF32, {1, 2, 4, 4});
  SelectCachedRowsParams c{.scores = scores.view(), .theta = 0.1f, .symbols = symbols.view()};
  EXPECT_TRUE(mentions(backend.select_cached_rows({}, c), "choosing cached rows"));
  c.theta = -1;
  EXPECT_TRUE(backend.select_cached_rows({}, c).ok());
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

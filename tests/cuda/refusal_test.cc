// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA backend cannot do it refuses before any work, naming what it saw; and what it says
// of itself.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

class CudaRefusal : public CudaTest {};

bool mentions(const Status& status, const std::string& word) {
  return !status.ok() && status.message().find(word) != std::string::npos;
}

TEST_F(CudaRefusal, SaysWhatItRunsOn) {
  const BackendInfo info = backend().info();
  EXPECT_EQ(info.name, "cuda");
  EXPECT_NE(info.device, "");
  EXPECT_EQ(info.isa.substr(0, 3), "sm_");
  EXPECT_GT(info.memory_bytes, size_t{1} << 30);
  EXPECT_TRUE(mentions(make_backend("cuda", {.isa = "AVX2"}).status(), "AVX2"));
}

// What the environment asks for, unless the caller does.
TEST_F(CudaRefusal, KernelPathOfTheEnvironment) {
  const char* const variable = "FLASHOMNI_CUDA_PATH";
  const std::string before = std::getenv(variable) ? std::getenv(variable) : "";
  setenv(variable, "portable", 1);
  const auto portable = make_backend("cuda");
  ASSERT_TRUE(portable.ok()) << portable.status().to_string();
  EXPECT_EQ(portable.value()->info().isa, "sm_80 (portable)");
  setenv(variable, "fastest", 1);
  const Status unknown = make_backend("cuda").status();
  EXPECT_TRUE(mentions(unknown, "'fastest'")) << unknown.to_string();
  EXPECT_TRUE(mentions(unknown, variable)) << unknown.to_string();
  EXPECT_TRUE(make_backend("cuda", {.isa = "portable"}).ok());
  if (before.empty()) {
    unsetenv(variable);
  } else {
    setenv(variable, before.c_str(), 1);
  }
}

TEST_F(CudaRefusal, TypesAndShapes) {
  const GuardTensor f64(backend(), DType::kF64, {2, 3, 8}), f32(backend(), DType::kF32, {2, 3, 8});
  EXPECT_TRUE(
      names_dtype(backend().activation({}, {.x = f64.view(), .out = f64.view()}), DType::kF64));
  EXPECT_TRUE(mentions(
      backend().activation({}, {.x = f32.view(), .out = f32.view().slice(0, 0, 1)}), "[2,3,8]"));
  EXPECT_TRUE(mentions(backend().copy({}, {.src = f32.view(), .dst = f64.view()}), "f64"));
  EXPECT_TRUE(mentions(backend().token_mean({}, {.x = f32.view(), .out = f32.view()}), "rank 4"));
  EXPECT_TRUE(
      mentions(backend().pack_weight({.weight = f64.view().slice(0, 0, 1)}).status(), "rank 2"));
}

TEST_F(CudaRefusal, PlansThatAreMissingOrTooSmall) {
  const SymbolGeometry g{.q_tokens = 300, .kv_tokens = 300, .block_q = 128, .block_kv = 128};
  const GuardedSymbols symbols(backend(), SparseSymbols(g));
  EXPECT_TRUE(mentions(backend().plan({}, {symbols.view(), {}}), "missing"));
  const GuardBuffer small(backend(), 64);
  EXPECT_TRUE(mentions(backend().plan({}, {symbols.view(), {small.data(), small.bytes()}}), "64"));
  SymbolGeometry odd = g;
  odd.block_q = 32;
  const GuardedSymbols of_32(backend(), SparseSymbols(odd));
  const GuardBuffer memory(backend(), 1 << 20);
  EXPECT_TRUE(mentions(backend().plan({}, {of_32.view(), {memory.data(), memory.bytes()}}), "32"));
}

TEST_F(CudaRefusal, RaggedBlocks) {
  SymbolGeometry g{.heads = 2,
                   .q_tokens = 100,
                   .kv_tokens = 100,
                   .block_q = 64,
                   .block_kv = 64,
                   .ragged_blocks = 3};
  const std::vector<int32_t> starts = {0, 10, 60, 100};
  GuardedSymbols symbols(backend(), SparseSymbols(g, starts));
  const GuardTensor x(backend(), DType::kBF16, {1, 100, 2, 64});
  AttentionParams p{.q = x.view(), .k = x.view(), .v = x.view(), .out = x.view()};
  p.symbols = symbols.view();
  p.plan = symbols.make_plan();
  EXPECT_TRUE(backend().supports(p).ok()) << backend().supports(p).to_string();
  p.symbols.starts = nullptr;
  EXPECT_TRUE(mentions(backend().supports(p), "came without their starts"));

  // Projections and the choice of cached rows want blocks of one size.
  const GuardTensor w(backend(), DType::kBF16, {128, 128});
  const auto heads = backend().pack_weight({.weight = w.view(), .out_head_dim = 64});
  const auto plain = backend().pack_weight({.weight = w.view()});
  ASSERT_TRUE(heads.ok() && plain.ok());
  const GuardTensor rows(backend(), DType::kBF16, {1, 100, 128});
  const GemmQParams q{.x = rows.view(),
                      .weight = heads->get(),
                      .out = x.view(),
                      .symbols = symbols.view(),
                      .plan = p.plan};
  EXPECT_TRUE(mentions(backend().supports(q), "ragged")) << backend().supports(q).to_string();
  const GemmOParams o{.attn = x.view(),
                      .weight = plain->get(),
                      .rows = 100,
                      .out = rows.view(),
                      .symbols = symbols.view(),
                      .plan = p.plan};
  EXPECT_TRUE(mentions(backend().supports(o), "ragged")) << backend().supports(o).to_string();
  const GuardTensor scores(backend(), DType::kF32, {1, 2, 3, 3});
  SelectCachedRowsParams c{.scores = scores.view(), .theta = 0.1f, .symbols = symbols.view()};
  EXPECT_TRUE(mentions(backend().select_cached_rows({}, c), "choosing cached rows"));

  g.block_q = g.block_kv = 32;
  g.ragged_blocks = 4;
  const GuardedSymbols of_32(backend(), SparseSymbols(g, std::vector<int32_t>{0, 10, 40, 70, 100}));
  const GuardBuffer memory(backend(), 1 << 20);
  EXPECT_TRUE(mentions(backend().plan({}, {of_32.view(), {memory.data(), memory.bytes()}}), "32"));
}

// Far more memory than there is; and the backend goes on working.
TEST_F(CudaRefusal, OutOfMemory) {
  const auto buffer = backend().allocate(size_t{1} << 50);
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.status().code(), StatusCode::kOutOfMemory) << buffer.status().to_string();
  const GuardTensor x(backend(), DType::kF32, {8}, {1, 2, 3, 4, 5, 6, 7, 8});
  const GuardTensor y(backend(), DType::kF32, {8});
  const Status done = backend().copy({}, {.src = x.view(), .dst = y.view()});
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_TRUE(same_bits(y.read(), x.read()));
  ASSERT_FALSE(backend().allocate(size_t{1} << 50).ok());
  const Status launched = backend().activation({}, {.x = x.view(), .out = y.view()});
  EXPECT_TRUE(launched.ok()) << launched.to_string();
}

}  // namespace
}  // namespace flashomni::testkit

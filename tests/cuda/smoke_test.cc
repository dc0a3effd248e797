// SPDX-License-Identifier: Apache-2.0
//
// Every kernel at least once in sizes that compute-sanitizer can follow; see
// scripts/gpu_sanitize.sh. Results are checked elsewhere: here they only must be there, inside
// their tensors.
#include <gtest/gtest.h>

#include <string>

#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/layer_steps.h"
#include "tests/testkit/attention_case.h"
#include "tests/testkit/gemm_q_case.h"

namespace flashomni::testkit {
namespace {

class CudaSmoke : public CudaTest {};

void expect_ok(const Status& status) {
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(CudaSmoke, Steps) {
  for (const int block : {64, 128}) {
    SCOPED_TRACE(block);
    const SymbolGeometry g{.batch = 1,
                           .heads = 2,
                           .q_tokens = 300,
                           .kv_tokens = 300,
                           .block_q = block,
                           .block_kv = block};
    LayerSteps layer(backend(), g);
    expect_ok(layer.update(nullptr));
    expect_ok(layer.dispatch(nullptr));
    expect_ok(backend().synchronize({}));
    (void)layer.results();  // looks for damage
  }
}

// Long enough for tiles that several CTAs share.
TEST_F(CudaSmoke, Attention) {
  for (const int head_dim : {64, 96, 128}) {
    for (const int block : {64, 128}) {
      AttentionCase c;
      c.seed = 640000;
      c.geometry = {.batch = 1,
                    .heads = 1,
                    .q_tokens = 130,
                    .kv_tokens = 3000,
                    .block_q = block,
                    .block_kv = block};
      c.head_dim = head_dim;
      c.dtype = head_dim == 96 ? DType::kF16 : DType::kBF16;
      c.pattern = Pattern::kRandomS;
      SCOPED_TRACE(c.text());
      const AttentionOutcome outcome = run(backend(), c, make_data(c));
      expect_ok(outcome.status);
      EXPECT_EQ(outcome.damage, "");
    }
  }
}

// The schedule of GEMM-Q with several windows of rows, and with more than a warp has lanes.
TEST_F(CudaSmoke, GemmQWindows) {
  for (const int tokens : {2300, 34000}) {
    GemmQCase c;
    c.seed = 643000;
    c.pattern = Pattern::kRandomC;
    c.geometry = {.batch = 1,
                  .heads = 1,
                  .q_tokens = tokens,
                  .kv_tokens = tokens,
                  .block_q = 128,
                  .block_kv = 128};
    c.rows = tokens;
    c.in_features = 8;
    c.head_dim = 64;
    c.x_dtype = c.weight_dtype = c.out_dtype = DType::kBF16;
    c.sparse = true;
    SCOPED_TRACE(c.text());
    const GemmQOutcome outcome = run(backend(), c, make_data(c));
    expect_ok(outcome.status);
    EXPECT_EQ(outcome.damage, "");
  }
}

// Rows that are sorted, on both sides of the symbols.
TEST_F(CudaSmoke, LongSelections) {
  Rng rng(641000);
  for (const bool long_kv : {false, true}) {
    const SymbolGeometry g{.batch = 1,
                           .heads = 1,
                           .q_tokens = (long_kv ? 3 : 520) * 64,
                           .kv_tokens = (long_kv ? 1030 : 3) * 64,
                           .block_q = 64,
                           .block_kv = 64};
    const int64_t pairs = int64_t{1} * g.num_q_blocks() * g.num_kv_blocks();
    const GuardTensor scores(backend(), DType::kF32, {1, 1, g.num_q_blocks(), g.num_kv_blocks()},
                             normal_values(rng, pairs));
    const GuardedSymbols symbols(backend(), g);
    expect_ok(backend().select_cached_rows({}, {.scores = scores.view(),
                                                .text_q = {0, 1},
                                                .text_kv = {0, 1},
                                                .theta = 0.5f,
                                                .symbols = symbols.view()}));
    expect_ok(backend().select_kv_blocks(
        {}, {.scores = scores.view(), .parameter = 0.5f, .symbols = symbols.view()}));
    SymbolCounts counts;
    expect_ok(backend().count_symbols({}, {symbols.view(), &counts}));
    expect_ok(backend().synchronize({}));
    EXPECT_GT(counts.active_pairs, 0);
    EXPECT_EQ(symbols.damage(), "");
  }
}

TEST_F(CudaSmoke, Rows) {
  Rng rng(642000);
  const int rows = 70, width = 136;
  const auto tensor = [&](int n) {
    return GuardTensor(backend(), DType::kBF16, {1, n, width}, normal_values(rng, n * width));
  };
  const GuardTensor x = tensor(rows), y = tensor(rows), z = tensor(rows), out = tensor(rows);
  const GuardTensor scale = tensor(1), shift = tensor(1);
  const auto row_of = [](const GuardTensor& t) {
    return TensorView::contiguous(t.view().data, DType::kBF16, {1, width});
  };
  expect_ok(backend().norm_modulate(
      {}, {.x = x.view(), .scale = row_of(scale), .shift = row_of(shift), .out = out.view()}));
  expect_ok(backend().activation({}, {.x = x.view(), .out = out.view()}));
  expect_ok(backend().combine(
      {}, {.x = x.view(), .y = y.view(), .z = z.view(), .b = 1.f, .c = 1.f, .out = out.view()}));
  expect_ok(backend().copy({}, {x.view(), out.view()}));
  TaylorUpdateParams update{.feature = x.view(), .count = 2};
  update.factors[0] = y.view();
  update.factors[1] = z.view();
  expect_ok(backend().taylor_update({}, update));
  const auto weight = pack(backend(), make_layer(rng, width, width, DType::kBF16, true));
  LinearParams linear{.x = x.view(), .weight = weight.get(), .out = out.view()};
  const GuardBuffer workspace(backend(), backend().workspace_bytes(linear));
  expect_ok(backend().linear({nullptr, workspace.data(), workspace.bytes()}, linear));
  expect_ok(backend().synchronize({}));
  EXPECT_EQ(out.damage() + y.damage() + z.damage(), "");
}

}  // namespace
}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
//
// Times of the operations that come with symbols, at the sizes of FLUX and HunyuanVideo. Not a
// test: it prints, and runs only with --gtest_also_run_disabled_tests.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "base/half.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/packed.h"

namespace flashomni::testkit {
namespace {

class CudaTiming : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    exec_.stream = stream_;
  }
  void TearDown() override {
    if (stream_) cudaStreamDestroy(stream_);
  }

  // Prints the median of 15 replays of a graph of 20 calls, which leaves out what a launch costs
  // the host, and the rate of `bytes` of memory traffic or of `flops`. The calls are made with
  // exec_.
  void measure(const std::string& what, double bytes, double flops,
               const std::function<Status()>& call) {
    constexpr int kRuns = 15, kCalls = 20;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
    Status done;
    for (int n = 0; n < kCalls && done.ok(); ++n) done = call();
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess) << what;
    ASSERT_TRUE(done.ok()) << what << ": " << done.to_string();
    ASSERT_EQ(cudaGraphInstantiate(&replay, graph, 0), cudaSuccess) << what;
    cudaEvent_t begin, end;
    ASSERT_EQ(cudaEventCreate(&begin), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
    float us[kRuns];
    for (int run = -3; run < kRuns; ++run) {
      cudaEventRecord(begin, stream_);
      cudaGraphLaunch(replay, stream_);
      cudaEventRecord(end, stream_);
      ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess) << what;
      float ms = 0;
      cudaEventElapsedTime(&ms, begin, end);
      if (run >= 0) us[run] = ms * 1000 / kCalls;
    }
    std::sort(us, us + kRuns);
    const double seconds = us[kRuns / 2] * 1e-6;
    std::printf("%-44s %9.2f us", what.c_str(), double{us[kRuns / 2]});
    if (bytes > 0) std::printf(" %8.0f GB/s", bytes / seconds * 1e-9);
    if (flops > 0) std::printf(" %8.1f TFLOP/s", flops / seconds * 1e-12);
    std::printf("\n");
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
  }

  TensorView make(DType dtype, std::initializer_list<int64_t> shape, double scale = 1) {
    TensorView view = TensorView::contiguous(nullptr, dtype, shape);
    buffers_.push_back(std::move(backend().allocate(view.bytes())).value());
    view.data = buffers_.back()->data();
    // Two megabytes of random values over and over, a little less so that no block of tokens
    // repeats.
    Rng rng(buffers_.size());
    std::vector<uint16_t> random((size_t{1} << 20) - 8);
    for (uint16_t& bits : random) {
      const float value = static_cast<float>(rng.normal() * scale);
      bits = dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    }
    for (size_t at = 0; at < view.bytes(); at += random.size() * 2) {
      const size_t bytes = std::min(random.size() * 2, view.bytes() - at);
      EXPECT_TRUE(
          backend().upload({}, static_cast<char*>(view.data) + at, random.data(), bytes).ok());
    }
    return view;
  }

  cudaStream_t stream_ = nullptr;
  Exec exec_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

TEST_F(CudaTiming, DISABLED_Symbols) {
  Backend& gpu = backend();
  for (const int tokens : {4608, 16896, 33280}) {
    const int heads = 24, d = 128, block = 128, blocks = tokens / block;
    std::printf("%d tokens, %d heads of %d, blocks of %d\n", tokens, heads, d, block);
    const TensorView q = make(DType::kBF16, {1, tokens, heads, d});
    const TensorView other = make(DType::kBF16, {1, tokens, heads, d});
    const TensorView mean = make(DType::kF32, {1, heads, d}, 0.01);
    const TensorView pooled = make(DType::kF32, {1, heads, blocks, d});
    const TensorView pooled_k = make(DType::kF32, {1, heads, blocks, d});
    const TensorView gate = make(DType::kU8, {1, heads, blocks});
    const TensorView scores = make(DType::kF32, {1, heads, blocks, blocks});
    const double bytes = static_cast<double>(q.bytes());
    measure("copy (device to device)", 2 * bytes, 0, [&] { return gpu.copy(exec_, {q, other}); });
    measure("token_mean", bytes, 0, [&] { return gpu.token_mean(exec_, {q, mean}); });
    measure("pool", bytes, 0,
            [&] { return gpu.pool(exec_, {.x = q, .block = block, .out = pooled}); });
    measure("pool_pair", 2 * bytes, 0, [&] {
      return gpu.pool_pair(exec_, {.x = q, .block = block, .out = pooled},
                           {.x = other, .block = block, .out = pooled_k});
    });
    measure("pool, smoothed, gated", bytes, 0, [&] {
      return gpu.pool(
          exec_,
          {.x = q, .block = block, .mean = mean, .out = pooled, .gate = gate, .theta_sim = 0.5f});
    });
    measure("block_scores", 0, 2.0 * heads * blocks * blocks * d,
            [&] { return gpu.block_scores(exec_, {.q = pooled, .k = pooled, .out = scores}); });

    const SymbolGeometry g{.batch = 1,
                           .heads = heads,
                           .q_tokens = tokens,
                           .kv_tokens = tokens,
                           .block_q = block,
                           .block_kv = block};
    Rng rng(7);
    GuardedSymbols symbols(gpu, make_symbols(g, Pattern::kBoth, rng));
    PlanView plan = symbols.make_plan();
    measure("plan, random symbols", 0, 0, [&] { return gpu.plan(exec_, {symbols.view(), plan}); });
    GuardedSymbols chosen(gpu, SparseSymbols(g));
    const PlanView chosen_plan = chosen.make_plan();
    measure("select_cached_rows", 0, 0, [&] {
      return gpu.select_cached_rows(exec_, {.scores = scores,
                                            .text_q = {0, 4},
                                            .text_kv = {0, 4},
                                            .theta = 0.1f,
                                            .symbols = chosen.view()});
    });
    measure("select_kv_blocks", 0, 0, [&] {
      return gpu.select_kv_blocks(exec_,
                                  {.scores = scores, .parameter = 0.3f, .symbols = chosen.view()});
    });
    // As an Update calls them, so that they follow each other closely.
    const auto after_pooling = [&] {
      Status done = gpu.block_scores(exec_, {.q = pooled, .k = pooled_k, .out = scores});
      if (done.ok()) {
        done = gpu.select_cached_rows(exec_, {.scores = scores,
                                              .text_q = {0, 4},
                                              .text_kv = {0, 4},
                                              .theta = 0.1f,
                                              .symbols = chosen.view()});
      }
      if (done.ok()) {
        done = gpu.select_kv_blocks(
            exec_, {.scores = scores, .parameter = 0.3f, .symbols = chosen.view()});
      }
      return done.ok() ? gpu.plan(exec_, {chosen.view(), chosen_plan}) : done;
    };
    measure("scores, both selections and plan", 0, 0, after_pooling);
    measure("the same with pooling of both", 0, 0, [&] {
      const Status done = gpu.pool_pair(exec_, {.x = q, .block = block, .out = pooled},
                                        {.x = other, .block = block, .out = pooled_k});
      return done.ok() ? after_pooling() : done;
    });
    SymbolCounts counts;
    measure("count_symbols", 0, 0, [&] {
      return gpu.count_symbols(exec_, {chosen.view(), &counts});
    });
    EXPECT_TRUE(gpu.synchronize(exec_).ok());
    std::printf("selected: rows %.3f, pairs %.3f\n", counts.row_density(), counts.pair_density());

    SymbolGeometry fine = g;
    fine.block_q = 64;
    GuardedSymbols pairs(gpu, make_symbols(fine, Pattern::kBoth, rng));
    plan = pairs.make_plan();
    measure("plan, block_q 64", 0, 0, [&] { return gpu.plan(exec_, {pairs.view(), plan}); });
    buffers_.clear();
  }
}

TEST_F(CudaTiming, DISABLED_Rows) {
  Backend& gpu = backend();
  const int rows = 16896, width = 3072;
  const DType bf16 = DType::kBF16;
  const TensorView x = make(bf16, {1, rows, width}), y = make(bf16, {1, rows, width}),
                   z = make(bf16, {1, rows, width}), scale = make(bf16, {1, width}),
                   shift = make(bf16, {1, width});
  const double bytes = static_cast<double>(x.bytes());
  std::printf("%d rows of %d, bf16\n", rows, width);
  measure("norm_modulate", 2 * bytes, 0, [&] {
    return gpu.norm_modulate(exec_, {.x = x, .scale = scale, .shift = shift, .out = y});
  });
  measure("activation gelu", 2 * bytes, 0, [&] {
    return gpu.activation(exec_, {.x = x, .activation = Activation::kGeluTanh, .out = y});
  });
  measure("combine of three", 4 * bytes, 0, [&] {
    return gpu.combine(exec_,
                       {.x = x, .y = y, .z = z, .a = 0.5f, .b = 0.25f, .c = 0.25f, .out = y});
  });
  TaylorForecastParams forecast{.count = 2};
  forecast.factors[0] = x;
  forecast.factors[1] = y;
  forecast.residual = z;
  forecast.gate = scale;
  measure("taylor_forecast of two onto a residual", 4 * bytes, 0,
          [&] { return gpu.taylor_forecast(exec_, forecast); });
  TaylorUpdateParams update{.feature = x, .count = 2};
  update.factors[0] = y;
  update.factors[1] = z;
  measure("taylor_update of two", 4 * bytes, 0, [&] { return gpu.taylor_update(exec_, update); });

  Rng rng(3);
  const LayerValues layer = make_layer(rng, width, width, bf16, true);
  const auto weight = pack(gpu, layer);
  LinearParams linear{.x = x, .weight = weight.get(), .out = y};
  const GuardBuffer workspace(gpu, gpu.workspace_bytes(linear));
  exec_.workspace = workspace.data();
  exec_.workspace_bytes = workspace.bytes();
  const double flops = 2.0 * rows * width * width;
  measure("linear, bias", 0, flops, [&] { return gpu.linear(exec_, linear); });
  linear.activation = Activation::kGeluTanh;
  measure("linear, bias, gelu", 0, flops, [&] { return gpu.linear(exec_, linear); });
  linear.activation = Activation::kNone;
  linear.x = x.slice(1, 0, 1);
  linear.out = y.slice(1, 0, 1);
  measure("linear of one row", 2.0 * width * width, 0, [&] { return gpu.linear(exec_, linear); });
}

}  // namespace
}  // namespace flashomni::testkit

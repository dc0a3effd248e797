// SPDX-License-Identifier: Apache-2.0
//
// A whole Update and a whole Dispatch step go into a CUDA graph: nothing in them allocates, waits
// or reads back. Replayed on other inputs, a graph gives the bits of the same calls made one by
// one.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/packed.h"

namespace flashomni::testkit {
namespace {

constexpr DType kBF16 = DType::kBF16;
constexpr DType kF32 = DType::kF32;

void expect_cuda(cudaError_t error, const char* what) {
  ASSERT_EQ(error, cudaSuccess) << what << ": " << cudaGetErrorString(error);
}

// A stream of its own, and graphs of what is queued on it.
class Recorder {
 public:
  Recorder() {
    expect_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  ~Recorder() {
    if (graph_) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream_);
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Fails where the calls do anything that a graph cannot hold.
  void capture(const std::function<Status()>& calls) {
    cudaGraph_t graph = nullptr;
    expect_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), "starting a capture");
    const Status done = calls();
    const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
    ASSERT_TRUE(done.ok()) << done.to_string();
    expect_cuda(ended, "ending a capture");
    expect_cuda(cudaGraphInstantiate(&graph_, graph, 0), "making a graph");
    size_t nodes = 0;
    expect_cuda(cudaGraphGetNodes(graph, nullptr, &nodes), "counting nodes");
    EXPECT_GT(nodes, 0u);
    expect_cuda(cudaGraphDestroy(graph), "freeing a graph");
  }
  void replay() { expect_cuda(cudaGraphLaunch(graph_, stream_), "replaying"); }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
};

// One layer of a small model with everything that both steps touch.
class Layer {
 public:
  Layer(Backend& gpu, const SymbolGeometry& g)
      : gpu_(gpu),
        g_(g),
        width_(g.heads * kHeadDim),
        symbols_(gpu, g),
        plan_memory_(gpu, gpu.plan_bytes(g)) {
    Rng rng(11);
    weight_q_ = pack(gpu, make_layer(rng, width_, width_, kBF16, true), kHeadDim);
    weight_o_ = pack(gpu, make_layer(rng, width_, width_, kBF16, true));
    rms_ = GuardTensor(gpu, kF32, {kHeadDim}, normal_values(rng, kHeadDim));
    for (GuardTensor* t : {&q_, &k_, &v_}) *t = heads_tensor(rng);
    x_ = GuardTensor(gpu, kBF16, {g.batch, tokens(), width_}, normal_values(rng, elements()));
    coarser_ = heads_tensor(rng);
    const std::vector<double> angles = normal_values(rng, tokens() * (kHeadDim / 2));
    std::vector<double> cos, sin;
    for (double angle : angles) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    cos_ = GuardTensor(gpu, kF32, {tokens(), kHeadDim / 2}, cos);
    sin_ = GuardTensor(gpu, kF32, {tokens(), kHeadDim / 2}, sin);
    mean_ = GuardTensor(gpu, kF32, {g.batch, g.heads, kHeadDim});
    pooled_q_ = GuardTensor(gpu, kF32, {g.batch, g.heads, g.num_q_blocks(), kHeadDim});
    pooled_k_ = GuardTensor(gpu, kF32, {g.batch, g.heads, g.num_kv_blocks(), kHeadDim});
    gate_q_ = GuardTensor(gpu, DType::kU8, {g.batch, g.heads, g.num_q_blocks()});
    gate_k_ = GuardTensor(gpu, DType::kU8, {g.batch, g.heads, g.num_kv_blocks()});
    scores_ = GuardTensor(gpu, kF32, {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks()});
    reset();
    AttentionParams params = attention_params();
    workspace_ = GuardBuffer(gpu, gpu.workspace_bytes(params));
  }

  // What the steps write, poisoned again.
  void reset() {
    for (GuardTensor* t : {&out_, &new_q_}) poison(*t, {g_.batch, tokens(), g_.heads, kHeadDim});
    for (GuardTensor* t : {&y_, &plane_, &slope_, &forecast_}) {
      poison(*t, {g_.batch, tokens(), width_});
    }
  }
  void set_inputs(uint64_t seed) {
    Rng rng(seed);
    for (GuardTensor* t : {&q_, &k_, &v_, &x_, &coarser_}) t->write(normal_values(rng, elements()));
  }

  Status update(cudaStream_t stream) {
    const Exec exec{stream, workspace_.data(), workspace_.bytes()};
    FO_RETURN_IF_ERROR(gpu_.token_mean(exec, {k_.view(), mean_.view()}));
    FO_RETURN_IF_ERROR(gpu_.pool_pair(exec,
                                      {.x = q_.view(),
                                       .block = g_.block_q,
                                       .out = pooled_q_.view(),
                                       .gate = gate_q_.view(),
                                       .theta_sim = 0.005f},
                                      {.x = k_.view(),
                                       .block = g_.block_kv,
                                       .mean = mean_.view(),
                                       .out = pooled_k_.view(),
                                       .gate = gate_k_.view(),
                                       .theta_sim = 0.005f}));
    FO_RETURN_IF_ERROR(
        gpu_.block_scores(exec, {pooled_q_.view(), pooled_k_.view(), 0.f, scores_.view()}));
    FO_RETURN_IF_ERROR(gpu_.select_cached_rows(exec, {.scores = scores_.view(),
                                                      .text_q = {0, 1},
                                                      .text_kv = {0, 1},
                                                      .theta = 0.4f,
                                                      .gate_q = gate_q_.view(),
                                                      .symbols = symbols_.view()}));
    FO_RETURN_IF_ERROR(gpu_.select_kv_blocks(exec, {.scores = scores_.view(),
                                                    .parameter = 0.5f,
                                                    .keep_q = {0, 1},
                                                    .gate_q = gate_q_.view(),
                                                    .gate_kv = gate_k_.view(),
                                                    .symbols = symbols_.view()}));
    FO_RETURN_IF_ERROR(gpu_.plan(exec, {symbols_.view(), plan()}));
    FO_RETURN_IF_ERROR(gpu_.attention(exec, attention_params()));
    GemmOUpdateParams o;
    o.base = gemm_o_params();
    o.factors[0] = coarser_.view();
    o.factors[1] = v_.view();
    return gpu_.gemm_o_update(exec, o);
  }

  Status dispatch(cudaStream_t stream) {
    const Exec exec{stream, workspace_.data(), workspace_.bytes()};
    GemmQParams q{.x = x_.view(), .weight = weight_q_.get()};
    q.rms_weight = rms_.view();
    q.rope = {cos_.view(), sin_.view()};
    q.out = new_q_.view();
    q.symbols = symbols_.view();
    q.plan = plan();
    FO_RETURN_IF_ERROR(gpu_.gemm_q(exec, q));
    FO_RETURN_IF_ERROR(gpu_.attention(exec, attention_params()));
    GemmOParams o = gemm_o_params();
    o.coefficients[1] = 0.5f;
    FO_RETURN_IF_ERROR(gpu_.gemm_o(exec, o));
    TaylorForecastParams f{.count = 2};
    f.factors[0] = y_.view();
    f.factors[1] = plane_.view();
    f.coefficients[1] = 0.25f;
    f.out = forecast_.view();
    return gpu_.taylor_forecast(exec, f);
  }

  // Everything that the steps left, NaNs of tiles that nobody writes included.
  std::vector<std::vector<double>> results() const {
    std::vector<std::vector<double>> all;
    for (const GuardTensor* t : {&out_, &new_q_, &y_, &plane_, &slope_, &forecast_}) {
      EXPECT_EQ(t->damage(), "");
      all.push_back(t->read().values);
    }
    std::vector<double> words;  // in halves, which a double holds exactly
    for (const auto& part : {symbols_.c_words(), symbols_.s_words()}) {
      for (uint64_t w : part) {
        words.push_back(static_cast<double>(w >> 32));
        words.push_back(static_cast<double>(w & 0xffffffff));
      }
    }
    all.push_back(words);
    return all;
  }

 private:
  static constexpr int kHeadDim = 128;

  int64_t tokens() const { return g_.q_tokens; }
  int64_t elements() const { return g_.batch * tokens() * width_; }
  GuardTensor heads_tensor(Rng& rng) {
    return {gpu_, kBF16, {g_.batch, tokens(), g_.heads, kHeadDim}, normal_values(rng, elements())};
  }
  void poison(GuardTensor& t, std::vector<int64_t> shape) {
    if (!t) t = GuardTensor(gpu_, kBF16, std::move(shape));
    t.write(std::vector<double>(static_cast<size_t>(elements()), NAN));
  }
  PlanView plan() const { return {plan_memory_.data(), plan_memory_.bytes()}; }
  AttentionParams attention_params() const {
    AttentionParams p{.q = q_.view(), .k = k_.view(), .v = v_.view(), .out = out_.view()};
    p.symbols = symbols_.view();
    p.plan = plan();
    return p;
  }
  GemmOParams gemm_o_params() const {
    GemmOParams p;
    p.attn = coarser_.view();
    p.weight = weight_o_.get();
    p.rows = static_cast<int>(tokens());
    p.out = y_.view();
    p.symbols = symbols_.view();
    p.plan = plan();
    p.num_planes = 2;
    p.planes[0] = plane_.view();
    p.planes[1] = slope_.view();
    return p;
  }

  Backend& gpu_;
  SymbolGeometry g_;
  int width_;
  GuardedSymbols symbols_;
  GuardBuffer plan_memory_, workspace_;
  std::shared_ptr<const PackedWeight> weight_q_, weight_o_;
  GuardTensor q_, k_, v_, x_, coarser_, rms_, cos_, sin_;
  GuardTensor mean_, pooled_q_, pooled_k_, gate_q_, gate_k_, scores_;
  GuardTensor out_, new_q_, y_, plane_, slope_, forecast_;
};

bool equal(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t i = 0; i < a[t].size(); ++i) {
      const bool same = a[t][i] == b[t][i] || (std::isnan(a[t][i]) && std::isnan(b[t][i]));
      if (!same) return false;
    }
  }
  return true;
}

class CudaGraph : public CudaTest {};

TEST_F(CudaGraph, AnUpdateAndADispatchStepReplayBitForBit) {
  for (const int tokens : {700, 1920}) {
    SCOPED_TRACE(tokens);
    const SymbolGeometry g{.batch = 1,
                           .heads = 4,
                           .q_tokens = tokens,
                           .kv_tokens = tokens,
                           .block_q = 128,
                           .block_kv = 128};
    Layer layer(backend(), g);
    Recorder recorder;
    if (HasFatalFailure()) return;
    const auto both = [&] {
      const Status done = layer.update(recorder.stream());
      return done.ok() ? layer.dispatch(recorder.stream()) : done;
    };
    std::vector<std::vector<std::vector<double>>> eager;
    for (const uint64_t seed : {1, 2}) {
      layer.set_inputs(seed);
      layer.reset();
      const Status done = both();
      ASSERT_TRUE(done.ok()) << done.to_string();
      ASSERT_TRUE(backend().synchronize({recorder.stream()}).ok());
      eager.push_back(layer.results());
    }
    EXPECT_FALSE(equal(eager[0], eager[1]));

    recorder.capture(both);
    if (HasFatalFailure()) return;
    // The second inputs first: a graph that kept anything of the capture would show.
    for (const uint64_t seed : {2, 1, 2}) {
      layer.set_inputs(seed);
      layer.reset();
      recorder.replay();
      ASSERT_TRUE(backend().synchronize({recorder.stream()}).ok());
      EXPECT_TRUE(equal(layer.results(), eager[seed - 1])) << "inputs " << seed;
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit

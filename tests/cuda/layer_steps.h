// SPDX-License-Identifier: Apache-2.0
//
// One layer of a small model and the calls of an Update and of a Dispatch step on it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "flashomni/backend.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/packed.h"

namespace flashomni::testkit {

// With everything that both steps touch.
class LayerSteps {
 public:
  LayerSteps(Backend& gpu, const SymbolGeometry& g)
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
  static constexpr DType kBF16 = DType::kBF16;
  static constexpr DType kF32 = DType::kF32;

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

}  // namespace flashomni::testkit

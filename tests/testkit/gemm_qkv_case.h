// SPDX-License-Identifier: Apache-2.0
//
// A grouped GEMM-Q call as a test: Q is a GemmQCase, K and V are dense projections of the same rows
// by other weights. The grouped call must have the bits of three calls one by one.
#pragma once

#include <string>

#include "tests/testkit/gemm_q_case.h"

namespace flashomni::testkit {

struct GemmQkvOutcome {
  Status status;
  Output q, k, v;
  std::string damage;
};

// K like Q, V without RMSNorm and RoPE, as models have them.
inline GemmQkvOutcome run_qkv(Backend& backend, const GemmQCase& c, const GemmQData& data,
                              bool grouped) {
  const SymbolGeometry& g = c.geometry;
  Rng rng(c.seed ^ 0x6b76);
  const int width = g.heads * c.head_dim;
  const LayerValues k_layer = make_layer(rng, width, c.in_features, c.weight_dtype, c.bias);
  const LayerValues v_layer = make_layer(rng, width, c.in_features, c.weight_dtype, !c.bias);
  const auto q_weight = pack(backend, data.layer, c.head_dim, c.placement);
  const auto k_weight = pack(backend, k_layer, c.head_dim, c.placement);
  const auto v_weight = pack(backend, v_layer, c.head_dim, c.placement);

  const GuardTensor x(backend, c.x_dtype, {g.batch, c.rows, c.in_features}, data.x, c.placement);
  GuardTensor rms, cos, sin;
  if (c.rms) rms = GuardTensor(backend, DType::kF32, {c.head_dim}, data.rms_weight);
  if (c.rope) {
    const std::vector<int64_t> shape = {g.q_tokens, c.head_dim / 2};
    cos = GuardTensor(backend, DType::kF32, shape, data.cos, c.placement);
    sin = GuardTensor(backend, DType::kF32, shape, data.sin, c.placement);
  }
  const std::vector<int64_t> shape = {g.batch, g.q_tokens, g.heads, c.head_dim};
  const GuardTensor q(backend, c.out_dtype, shape, c.placement);
  const GuardTensor k(backend, c.out_dtype, shape, c.placement);
  const GuardTensor v(backend, c.out_dtype, shape, c.placement);
  GuardedSymbols symbols;
  if (c.sparse) symbols = GuardedSymbols(backend, data.symbols);

  GemmQkvParams p;
  p.q = {.x = x.view(),
         .weight = q_weight.get(),
         .rms_weight = rms.view(),
         .rope = {cos.view(), sin.view()},
         .token_offset = c.token_offset,
         .out = q.view()};
  p.k = p.q;
  p.k.weight = k_weight.get();
  p.k.out = k.view();
  p.v = {.x = x.view(), .weight = v_weight.get(), .token_offset = c.token_offset, .out = v.view()};
  p.q.symbols = symbols.view();
  p.q.plan = symbols.make_plan();

  GemmQkvOutcome outcome;
  outcome.status = backend.supports(p);
  const GuardBuffer workspace(backend, outcome.status.ok() ? backend.workspace_bytes(p) : 0);
  const Exec exec = {nullptr, workspace.data(), workspace.bytes()};
  if (grouped) {
    const Status done = backend.gemm_qkv(exec, p);
    EXPECT_EQ(done.ok(), outcome.status.ok())
        << "supports() and the operation disagree: " << done.to_string();
  } else {
    for (const GemmQParams* one : {&p.q, &p.k, &p.v}) {
      const Status done = backend.gemm_q(exec, *one);
      EXPECT_TRUE(done.ok()) << done.to_string();
    }
  }
  outcome.q = q.read();
  outcome.k = k.read();
  outcome.v = v.read();
  outcome.damage = x.damage() + rms.damage() + cos.damage() + sin.damage() + q.damage() +
                   k.damage() + v.damage() + symbols.damage() + workspace.damage();
  return outcome;
}

inline void expect_grouped_as_alone(Backend& backend, const GemmQCase& c) {
  SCOPED_TRACE(c.text());
  const GemmQData data = make_data(c);
  const GemmQkvOutcome grouped = run_qkv(backend, c, data, true);
  const GemmQkvOutcome alone = run_qkv(backend, c, data, false);
  ASSERT_TRUE(grouped.status.ok()) << grouped.status.to_string();
  EXPECT_EQ(grouped.damage, "");
  EXPECT_TRUE(same_bits(grouped.q, alone.q));
  EXPECT_TRUE(same_bits(grouped.k, alone.k));
  EXPECT_TRUE(same_bits(grouped.v, alone.v));
  EXPECT_FALSE(same_bits(grouped.k, grouped.v)) << "k and v have different weights";
}

// What the three must share is asked for, by name.
inline void expect_qkv_refusals(Backend& backend, DType dtype) {
  const int n = 64, in = 64, heads = 2, d = 64;
  Rng rng(1);
  const auto weight = pack(backend, make_layer(rng, heads * d, in, dtype, false), d);
  const auto other = pack(backend, make_layer(rng, heads * 2 * d, in, dtype, false), 2 * d);
  const GuardTensor x(backend, dtype, {1, n, in}), y(backend, dtype, {1, n, in});
  const GuardTensor out(backend, dtype, {1, 2 * n, heads, d});
  const GuardTensor wide(backend, dtype, {1, 2 * n, heads, 2 * d});
  GuardedSymbols symbols(
      backend,
      SparseSymbols(
          {.heads = heads, .q_tokens = 2 * n, .kv_tokens = 2 * n, .block_q = 64, .block_kv = 64}));
  const GemmQParams one = {.x = x.view(), .weight = weight.get(), .out = out.view()};
  ASSERT_TRUE(backend.supports(GemmQkvParams{one, one, one}).ok());
  const auto refuses = [&](const GemmQParams& wrong, const char* word) {
    for (const bool in_k : {true, false}) {
      const GemmQkvParams p =
          in_k ? GemmQkvParams{one, wrong, one} : GemmQkvParams{one, one, wrong};
      const Status s = backend.supports(p);
      EXPECT_FALSE(s.ok()) << word;
      EXPECT_NE(s.to_string().find(word), std::string::npos) << s.to_string();
      EXPECT_NE(s.to_string().find(in_k ? " of k " : " of v "), std::string::npos) << s.to_string();
    }
  };
  GemmQParams wrong = one;
  wrong.x = y.view();
  refuses(wrong, "x of");
  wrong = one;
  wrong.token_offset = 64;
  refuses(wrong, "token_offset of");
  wrong = one;
  wrong.weight = other.get();
  wrong.out = wide.view();
  refuses(wrong, "head_dim of");
  wrong = one;
  wrong.symbols = symbols.view();
  wrong.plan = symbols.make_plan();
  refuses(wrong, "symbols of");
}

}  // namespace flashomni::testkit

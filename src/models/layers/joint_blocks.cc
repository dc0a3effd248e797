// SPDX-License-Identifier: Apache-2.0
//
// The two kinds of block. Each asks the engine how it runs: computed (dense, refreshing or
// sparse, by the same calls) or degraded, when only gates are applied to reused module outputs.
#include "models/layers/joint_modulation.h"
#include "models/layers/joint_transformer.h"

namespace flashomni {
namespace {

// Order of the chunks in AdaLayerNormZero (double blocks) and AdaLayerNormZeroSingle.
enum Chunk { kShift, kScale, kGate, kShiftMlp, kScaleMlp, kGateMlp };

// Order of the module sites in describe_layers().
enum Site { kLatentsAttn, kLatentsMlp, kTextAttn, kTextMlp };
constexpr int kTotal = 0;

}  // namespace

// All three in one operation through the engine: tiles of Q may be skipped, K and V are dense.
Status JointTransformer::attention_inputs(Engine& engine, int layer, const TensorView& x,
                                          const Weight& q, const Weight& k, const Weight& v,
                                          const TensorView& norm_q, const TensorView& norm_k,
                                          int token_offset) {
  const GemmQParams one{.x = x, .token_offset = token_offset};
  GemmQkvParams p{.q = one, .k = one, .v = one};
  p.v.weight = v.get();
  p.v.out = v_;
  p.k.weight = k.get();
  p.k.rms_weight = norm_k;
  p.k.rope = rope_.table();
  p.k.out = k_;
  p.q.weight = q.get();
  p.q.rms_weight = norm_q;
  p.q.rope = rope_.table();
  p.q.out = q_;
  return engine.project_qkv(layer, p);
}

// The latents half of the first block's modulated input.
Status JointTransformer::probe_first_input(Engine& engine) {
  const int64_t first =
      config_.double_layers > 0 ? columns_->latents.front() : columns_->single.front();
  const TensorView out = rows(norm_, layout_.latents);
  FO_RETURN_IF_ERROR(backend_.norm_modulate(
      exec_,
      {.x = latents(), .scale = chunk(first, kScale), .shift = chunk(first, kShift), .out = out}));
  return engine.probe_input(out);
}

Status JointTransformer::double_block(Engine& engine, int index) {
  const DoubleBlockWeights& block = weights_.double_blocks[size_t(index)];
  const int layer = index;

  // The text and the latents half of the block differ only in weights and rows.
  struct Half {
    const StreamWeights& w;
    int64_t modulation;  // first column
    TokenRange tokens;
    int attn_site, mlp_site;
  };
  const Half halves[] = {
      {block.latents, columns_->latents[size_t(index)], layout_.latents, kLatentsAttn, kLatentsMlp},
      {block.text, columns_->text[size_t(index)], layout_.text, kTextAttn, kTextMlp},
  };
  auto chunk = [&](const Half& half, Chunk c) {
    return JointTransformer::chunk(half.modulation, c);
  };

  if (engine.begin_layer(layer) == LayerKind::kDegraded) {
    for (const Half& half : halves) {
      const TensorView x = rows(x_, half.tokens);
      FO_RETURN_IF_ERROR(engine.reuse_module(layer, half.attn_site, chunk(half, kGate), x));
      FO_RETURN_IF_ERROR(engine.reuse_module(layer, half.mlp_site, chunk(half, kGateMlp), x));
    }
    return ok_status();
  }

  for (const Half& half : halves) {
    FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = rows(x_, half.tokens),
                                                      .scale = chunk(half, kScale),
                                                      .shift = chunk(half, kShift),
                                                      .out = rows(norm_, half.tokens)}));
    const StreamAttention& a = half.w.attention;
    FO_RETURN_IF_ERROR(attention_inputs(engine, layer, rows(norm_, half.tokens), a.q, a.k, a.v,
                                        a.norm_q, a.norm_k, half.tokens.begin));
  }
  const TensorView attn = engine.attention_out(layer, attn_);
  FO_RETURN_IF_ERROR(engine.attention(layer, {.q = q_, .k = k_, .v = v_, .out = attn}));

  const bool store = engine.wants_modules(layer);
  for (const Half& half : halves) {
    const TensorView x = rows(x_, half.tokens);
    const TensorView kept = store ? rows(module_out_, half.tokens) : TensorView{};

    GemmOParams o{.attn = attn, .weight = half.w.attention.out.get()};
    o.token_offset = half.tokens.begin;
    o.rows = half.tokens.size();
    o.out = kept;
    o.residual = x;
    o.gate = chunk(half, kGate);
    FO_RETURN_IF_ERROR(engine.project_out(layer, o));
    if (store) FO_RETURN_IF_ERROR(engine.store_module(layer, half.attn_site, kept));

    FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = x,
                                                      .scale = chunk(half, kScaleMlp),
                                                      .shift = chunk(half, kShiftMlp),
                                                      .out = rows(norm_, half.tokens)}));
    LinearParams in{.x = rows(norm_, half.tokens), .weight = half.w.ff_in.get()};
    in.activation = Activation::kGeluTanh;
    in.out = rows(mlp_, half.tokens);
    FO_RETURN_IF_ERROR(backend_.linear(exec_, in));
    LinearParams out{.x = rows(mlp_, half.tokens), .weight = half.w.ff_out.get()};
    out.out = kept;
    out.residual = x;
    out.gate = chunk(half, kGateMlp);
    FO_RETURN_IF_ERROR(backend_.linear(exec_, out));
    if (store) FO_RETURN_IF_ERROR(engine.store_module(layer, half.mlp_site, kept));
  }
  return ok_status();
}

Status JointTransformer::single_block(Engine& engine, int index) {
  const SingleBlockWeights& w = weights_.single_blocks[size_t(index)];
  const int layer = config_.double_layers + index;
  auto chunk = [&](Chunk c) { return JointTransformer::chunk(columns_->single[size_t(index)], c); };

  if (engine.begin_layer(layer) == LayerKind::kDegraded) {
    return engine.reuse_module(layer, kTotal, chunk(kGate), x_);
  }
  FO_RETURN_IF_ERROR(backend_.norm_modulate(
      exec_, {.x = x_, .scale = chunk(kScale), .shift = chunk(kShift), .out = norm_}));
  FO_RETURN_IF_ERROR(attention_inputs(engine, layer, norm_, w.q, w.k, w.v, w.norm_q, w.norm_k, 0));
  const TensorView attn = engine.attention_out(layer, attn_);
  FO_RETURN_IF_ERROR(engine.attention(layer, {.q = q_, .k = k_, .v = v_, .out = attn}));
  LinearParams mlp{.x = norm_, .weight = w.mlp.get(), .activation = Activation::kGeluTanh};
  mlp.out = mlp_;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, mlp));

  const bool store = engine.wants_modules(layer);
  GemmOParams o{.attn = attn, .mlp = mlp_, .weight = w.out.get(), .rows = layout_.tokens()};
  if (store) o.out = module_out_;
  o.residual = x_;
  o.gate = chunk(kGate);
  FO_RETURN_IF_ERROR(engine.project_out(layer, o));
  return store ? engine.store_module(layer, kTotal, module_out_) : ok_status();
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// The block of Wan: self-attention, cross-attention, feed-forward.
#include "models/wan/transformer.h"

namespace flashomni::wan {
namespace {

// Order of the chunks of a block's modulation.
enum Chunk { kShift, kScale, kGate, kShiftFfn, kScaleFfn, kGateFfn };

// Order of the module sites in describe_layers().
enum Site { kSelf, kCross, kFfn };

}  // namespace

TensorView WanTransformer::chunk(int index) const {
  const int64_t d = config_.width();
  return modulation_.view().slice(1, index * d, (index + 1) * d);
}

Status WanTransformer::project(const Weight& weight, const TensorView& x, const TensorView& out) {
  GemmQParams p{.x = x, .weight = weight.get()};
  p.out = out;
  return backend_.gemm_q(exec_, p);
}

Status WanTransformer::normalize(const TensorView& x, const TensorView& weight,
                                 const RopeTable& rope) {
  const auto eps = static_cast<float>(config_.eps);
  return backend_.rms_norm(exec_, {.x = x, .weight = weight, .eps = eps, .rope = rope});
}

Status WanTransformer::block(Engine& engine, int index, int stream) {
  FO_RETURN_IF_ERROR(backend_.combine(exec_, {.x = time_now_,
                                              .y = weights_.blocks[size_t(index)].table,
                                              .a = 1.f,
                                              .b = 1.f,
                                              .out = modulation_.view()}));
  if (engine.begin_layer(index) == LayerKind::kDegraded) return reuse(engine, index);
  FO_RETURN_IF_ERROR(self_attention(engine, index));
  FO_RETURN_IF_ERROR(cross_attention(engine, index, text_[size_t(stream)][size_t(index)]));
  return feed_forward(engine, index);
}

Status WanTransformer::reuse(Engine& engine, int index) {
  FO_RETURN_IF_ERROR(engine.reuse_module(index, kSelf, chunk(kGate), x_));
  FO_RETURN_IF_ERROR(engine.reuse_module(index, kCross, {}, x_));
  return engine.reuse_module(index, kFfn, chunk(kGateFfn), x_);
}

Status WanTransformer::self_attention(Engine& engine, int index) {
  const AttentionWeights& w = weights_.blocks[size_t(index)].self;
  FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = x_,
                                                    .scale = chunk(kScale),
                                                    .shift = chunk(kShift),
                                                    .out = norm_.view(),
                                                    .eps = static_cast<float>(config_.eps)}));
  if (engine.wants_keys(index)) {
    FO_RETURN_IF_ERROR(project(w.q, norm_, q_));
    FO_RETURN_IF_ERROR(project(w.k, norm_, k_));
    FO_RETURN_IF_ERROR(project(w.v, norm_, v_));
    FO_RETURN_IF_ERROR(normalize(q_, w.norm_q, rope_.table()));
    FO_RETURN_IF_ERROR(normalize(k_, w.norm_k, rope_.table()));
  }
  const TensorView attn = engine.attention_out(index, attn_);
  FO_RETURN_IF_ERROR(engine.attention(index, {.q = q_, .k = k_, .v = v_, .out = attn}));

  const bool store = engine.wants_modules(index);
  GemmOParams o{.attn = attn, .weight = w.out.get(), .rows = tokens_};
  if (store) o.out = module_out_;
  o.residual = x_;
  o.gate = chunk(kGate);
  FO_RETURN_IF_ERROR(engine.project_out(index, o));
  return store ? engine.store_module(index, kSelf, module_out_) : ok_status();
}

// Dense: its keys are the text's, a few hundred against tens of thousands of latent tokens.
Status WanTransformer::cross_attention(Engine& engine, int index, const TextKeys& text) {
  const BlockWeights& block = weights_.blocks[size_t(index)];
  const AttentionWeights& w = block.cross;
  if (config_.cross_attn_norm) {
    FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = x_,
                                                      .scale = block.cross_norm.scale,
                                                      .shift = block.cross_norm.shift,
                                                      .out = norm_.view(),
                                                      .eps = static_cast<float>(config_.eps)}));
  }
  FO_RETURN_IF_ERROR(project(w.q, config_.cross_attn_norm ? norm_ : x_, q_));
  FO_RETURN_IF_ERROR(normalize(q_, w.norm_q, {}));
  FO_RETURN_IF_ERROR(backend_.attention(exec_, {.q = q_, .k = text.k, .v = text.v, .out = attn_}));

  const bool store = engine.wants_modules(index);
  LinearParams out{.x = merge_heads(attn_), .weight = w.out.get()};
  if (store) out.out = module_out_;
  out.residual = x_;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, out));
  return store ? engine.store_module(index, kCross, module_out_) : ok_status();
}

Status WanTransformer::feed_forward(Engine& engine, int index) {
  const BlockWeights& w = weights_.blocks[size_t(index)];
  FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = x_,
                                                    .scale = chunk(kScaleFfn),
                                                    .shift = chunk(kShiftFfn),
                                                    .out = norm_.view(),
                                                    .eps = static_cast<float>(config_.eps)}));
  LinearParams in{.x = norm_, .weight = w.ff_in.get(), .activation = Activation::kGeluTanh};
  in.out = mlp_;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, in));
  const bool store = engine.wants_modules(index);
  LinearParams out{.x = mlp_, .weight = w.ff_out.get()};
  if (store) out.out = module_out_;
  out.residual = x_;
  out.gate = chunk(kGateFfn);
  FO_RETURN_IF_ERROR(backend_.linear(exec_, out));
  return store ? engine.store_module(index, kFfn, module_out_) : ok_status();
}

}  // namespace flashomni::wan

// SPDX-License-Identifier: Apache-2.0
#include "models/hunyuan_video/token_refiner.h"

#include "models/layers/timestep_embedding.h"

namespace flashomni::hunyuan_video {
namespace {

constexpr int kTimestepChannels = 256;
constexpr int kMlpRatio = 4;  // whatever the model's own mlp_ratio is

}  // namespace

Status TokenRefiner::load(const HunyuanVideoConfig& config, WeightLoader& loader) {
  config_ = config;
  const int64_t d = config.width();
  const int hd = config.attention_head_dim;
  const std::string root = "context_embedder.";
  const std::string embed = root + "time_text_embed.";
  FO_ASSIGN_OR_RETURN(timestep_,
                      load_embedder(loader, embed + "timestep_embedder", kTimestepChannels, d));
  FO_ASSIGN_OR_RETURN(pooled_,
                      load_embedder(loader, embed + "text_embedder", config.text_embed_dim, d));
  FO_ASSIGN_OR_RETURN(proj_in_, loader.linear(root + "proj_in", d, config.text_embed_dim));
  for (int i = 0; i < config.num_refiner_layers; ++i) {
    const std::string p = root + "token_refiner.refiner_blocks." + std::to_string(i) + ".";
    Block b;
    FO_ASSIGN_OR_RETURN(b.norm_attn, load_affine_norm(backend_, loader, p + "norm1", d));
    FO_ASSIGN_OR_RETURN(b.norm_ff, load_affine_norm(backend_, loader, p + "norm2", d));
    FO_ASSIGN_OR_RETURN(b.q, loader.linear(p + "attn.to_q", d, d, hd));
    FO_ASSIGN_OR_RETURN(b.k, loader.linear(p + "attn.to_k", d, d, hd));
    FO_ASSIGN_OR_RETURN(b.v, loader.linear(p + "attn.to_v", d, d, hd));
    FO_ASSIGN_OR_RETURN(b.out, loader.linear(p + "attn.to_out.0", d, d));
    FO_ASSIGN_OR_RETURN(b.ff_in, loader.linear(p + "ff.net.0.proj", kMlpRatio * d, d));
    FO_ASSIGN_OR_RETURN(b.ff_out, loader.linear(p + "ff.net.2", d, kMlpRatio * d));
    FO_ASSIGN_OR_RETURN(b.gates, loader.linear(p + "norm_out.linear", 2 * d, d));
    blocks_.push_back(std::move(b));
  }
  return ok_status();
}

Result<TokenRefiner::Activations> TokenRefiner::allocate(int64_t text_tokens) const {
  const DType dtype = backend_.activation_dtype();
  const int64_t d = config_.width(), h = config_.num_attention_heads;
  const int64_t hd = config_.attention_head_dim;
  Activations a;
  FO_ASSIGN_OR_RETURN(a.norm, Tensor::allocate(backend_, dtype, {1, text_tokens, d}));
  for (Tensor* t : {&a.q, &a.k, &a.v, &a.attn}) {
    FO_ASSIGN_OR_RETURN(*t, Tensor::allocate(backend_, dtype, {1, text_tokens, h, hd}));
  }
  FO_ASSIGN_OR_RETURN(a.mlp, Tensor::allocate(backend_, dtype, {1, text_tokens, kMlpRatio * d}));
  return a;
}

Result<Tensor> TokenRefiner::condition(const Exec& exec, std::span<const float> states,
                                       int64_t text_tokens, std::span<const float> times) const {
  const auto steps = static_cast<int64_t>(times.size());
  const int64_t d = config_.width(), in = config_.text_embed_dim;
  std::vector<double> sum(size_t(in), 0.0);
  for (size_t i = 0; i < states.size(); ++i) sum[i % size_t(in)] += double(states[i]);
  std::vector<float> mean(size_t(in), 0.f);
  for (size_t i = 0; i < mean.size(); ++i) {
    mean[i] = static_cast<float>(sum[i] / static_cast<double>(text_tokens));
  }
  std::vector<float> sinusoids, means;
  for (const float t : times) {
    const auto row = timestep_embedding(t, kTimestepChannels);
    sinusoids.insert(sinusoids.end(), row.begin(), row.end());
    means.insert(means.end(), mean.begin(), mean.end());
  }
  FO_ASSIGN_OR_RETURN(const Tensor t,
                      Tensor::upload(backend_, sinusoids, {steps, kTimestepChannels}));
  FO_ASSIGN_OR_RETURN(const Tensor p, Tensor::upload(backend_, means, {steps, in}));
  FO_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(backend_, DType::kF32, {steps, d}));
  FO_ASSIGN_OR_RETURN(const Tensor pooled, Tensor::allocate(backend_, DType::kF32, {steps, d}));
  FO_RETURN_IF_ERROR(run_embedder(backend_, exec, timestep_, t, out));
  FO_RETURN_IF_ERROR(run_embedder(backend_, exec, pooled_, p, pooled));
  FO_RETURN_IF_ERROR(
      backend_.combine(exec, {.x = out, .y = pooled, .a = 1.f, .b = 1.f, .out = out.view()}));
  FO_RETURN_IF_ERROR(
      backend_.activation(exec, {.x = out, .activation = Activation::kSilu, .out = out.view()}));
  FO_RETURN_IF_ERROR(backend_.synchronize(exec));
  return out;
}

// x += gate * attention(norm(x)); x += gate * mlp(norm(x)).
Status TokenRefiner::run_block(const Exec& exec, const Block& block, const TensorView& gates,
                               const TensorView& x, const Activations& a) const {
  const int64_t d = config_.width();
  auto norm = [&](const AffineNorm& n) {
    return backend_.norm_modulate(
        exec, {.x = x, .scale = n.scale, .shift = n.shift, .out = a.norm.view()});
  };
  FO_RETURN_IF_ERROR(norm(block.norm_attn));
  auto project = [&](const Weight& w, const Tensor& out) {
    GemmQParams p{.x = a.norm, .weight = w.get()};
    p.out = out;
    return backend_.gemm_q(exec, p);
  };
  FO_RETURN_IF_ERROR(project(block.q, a.q));
  FO_RETURN_IF_ERROR(project(block.k, a.k));
  FO_RETURN_IF_ERROR(project(block.v, a.v));
  FO_RETURN_IF_ERROR(backend_.attention(exec, {.q = a.q, .k = a.k, .v = a.v, .out = a.attn}));
  LinearParams out{.x = merge_heads(a.attn), .weight = block.out.get()};
  out.residual = x;
  out.gate = gates.slice(1, 0, d);
  FO_RETURN_IF_ERROR(backend_.linear(exec, out));

  FO_RETURN_IF_ERROR(norm(block.norm_ff));
  LinearParams ff_in{.x = a.norm, .weight = block.ff_in.get(), .activation = Activation::kSilu};
  ff_in.out = a.mlp;
  FO_RETURN_IF_ERROR(backend_.linear(exec, ff_in));
  LinearParams ff_out{.x = a.mlp, .weight = block.ff_out.get()};
  ff_out.residual = x;
  ff_out.gate = gates.slice(1, d, 2 * d);
  return backend_.linear(exec, ff_out);
}

Result<Tensor> TokenRefiner::refine(const Exec& exec, std::span<const float> states,
                                    int64_t text_tokens, std::span<const float> times) const {
  const auto steps = static_cast<int64_t>(times.size());
  const int64_t d = config_.width();
  const DType dtype = backend_.activation_dtype();
  FO_ASSIGN_OR_RETURN(const Tensor condition_rows, condition(exec, states, text_tokens, times));
  std::vector<Tensor> gates;
  for (const Block& b : blocks_) {
    FO_ASSIGN_OR_RETURN(Tensor rows, Tensor::allocate(backend_, DType::kF32, {steps, 2 * d}));
    LinearParams p{.x = condition_rows, .weight = b.gates.get()};
    p.out = rows;
    FO_RETURN_IF_ERROR(backend_.linear(exec, p));
    gates.push_back(std::move(rows));
  }

  FO_ASSIGN_OR_RETURN(
      const Tensor raw,
      Tensor::upload(backend_, states, {1, text_tokens, int64_t{config_.text_embed_dim}}));
  FO_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(backend_, dtype, {steps, text_tokens, d}));
  FO_ASSIGN_OR_RETURN(const Activations a, allocate(text_tokens));
  for (int64_t t = 0; t < steps; ++t) {
    const TensorView x = out.view().slice(0, t, t + 1);
    if (t == 0) {
      LinearParams in{.x = raw, .weight = proj_in_.get()};
      in.out = x;
      FO_RETURN_IF_ERROR(backend_.linear(exec, in));
      for (int64_t u = 1; u < steps; ++u) {
        FO_RETURN_IF_ERROR(backend_.copy(exec, {.src = x, .dst = out.view().slice(0, u, u + 1)}));
      }
    }
    for (size_t i = 0; i < blocks_.size(); ++i) {
      FO_RETURN_IF_ERROR(run_block(exec, blocks_[i], gates[i].view().slice(0, t, t + 1), x, a));
    }
  }
  FO_RETURN_IF_ERROR(backend_.synchronize(exec));
  return out;
}

void TokenRefiner::add_workspace(WorkspaceSize& size, int64_t text_tokens, int64_t steps) const {
  const DType dtype = backend_.activation_dtype();
  for (const EmbedderWeights* e : {&timestep_, &pooled_}) {
    size.linear(e->linear_1, DType::kF32, steps);
    size.linear(e->linear_2, DType::kF32, steps);
  }
  size.linear(proj_in_, DType::kF32, text_tokens, dtype);
  const TensorView heads =
      shape_only(dtype, {1, text_tokens, config_.num_attention_heads, config_.attention_head_dim});
  size.add(AttentionParams{.q = heads, .k = heads, .v = heads, .out = heads});
  for (const Block& b : blocks_) {
    size.linear(b.gates, DType::kF32, steps);
    GemmQParams q{.x = shape_only(dtype, {1, text_tokens, config_.width()}), .weight = b.q.get()};
    q.out = heads;
    size.add(q);
    size.gated_linear(b.out, dtype, text_tokens);
    size.linear(b.ff_in, dtype, text_tokens);
    size.gated_linear(b.ff_out, dtype, text_tokens);
  }
}

}  // namespace flashomni::hunyuan_video

// SPDX-License-Identifier: Apache-2.0
//
// Loading, set-up of a run, and the forward pass; the blocks are in blocks.cc.
#include "models/flux/transformer.h"

#include <algorithm>

#include "models/flux/stream_state.h"
#include "models/layers/timestep_embedding.h"

namespace flashomni::flux {
namespace {

constexpr int kTimestepChannels = 256;
constexpr double kRopeTheta = 10000.0;
constexpr float kTimeScale = 1000.f;  // sigma and guidance are embedded as multiples of this

}  // namespace

FluxTransformer::FluxTransformer(Backend& backend) : backend_(backend) {}
FluxTransformer::~FluxTransformer() = default;

Result<std::unique_ptr<FluxTransformer>> FluxTransformer::load(Backend& backend,
                                                               const std::string& folder) {
  FO_ASSIGN_OR_RETURN(const FluxConfig config, load_flux_config(folder + "/config.json"));
  FO_ASSIGN_OR_RETURN(WeightStore store, WeightStore::open(folder));
  WeightLoader loader(backend, store);
  return make(backend, config, loader);
}

Result<std::unique_ptr<FluxTransformer>> FluxTransformer::make(Backend& backend,
                                                               const FluxConfig& config,
                                                               WeightLoader& loader) {
  const TensorView heads = shape_only(
      backend.activation_dtype(),
      {1, config.num_attention_heads, config.num_attention_heads, config.attention_head_dim});
  FO_RETURN_IF_ERROR(
      backend.supports(AttentionParams{.q = heads, .k = heads, .v = heads, .out = heads}));
  std::unique_ptr<FluxTransformer> m(new FluxTransformer(backend));
  m->config_ = config;
  FO_ASSIGN_OR_RETURN(m->weights_, load_flux_weights(config, loader));
  m->parameters_ = loader.parameters();
  m->weight_bytes_ = loader.packed_bytes();
  m->unused_ = loader.unused();
  return m;
}

Status FluxTransformer::embedder(const EmbedderWeights& w, const TensorView& x,
                                 const TensorView& out) {
  FO_ASSIGN_OR_RETURN(Tensor hidden, Tensor::allocate(backend_, DType::kF32,
                                                      {x.size(0), w.linear_1->out_features()}));
  LinearParams first{.x = x, .weight = w.linear_1.get(), .activation = Activation::kSilu};
  first.out = hidden;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, first));
  LinearParams second{.x = hidden, .weight = w.linear_2.get()};
  second.out = out;
  return backend_.linear(exec_, second);
}

// temb = MLP(timestep) [+ MLP(guidance)] + MLP(pooled) depends only on the step and the stream, and
// so do all modulations: one GEMM per block over all steps here replaces one GEMV per step.
Status FluxTransformer::embed_conditioning(const RunSetup& setup) {
  const int64_t steps = static_cast<int64_t>(setup.sigmas.size());
  const int64_t d = config_.width();
  auto allocate = [&](std::initializer_list<int64_t> dims) {
    return Tensor::allocate(backend_, DType::kF32, dims);
  };

  std::vector<float> sinusoids;
  for (float sigma : setup.sigmas) {
    const auto row = timestep_embedding(kTimeScale * sigma, kTimestepChannels);
    sinusoids.insert(sinusoids.end(), row.begin(), row.end());
  }
  FO_ASSIGN_OR_RETURN(Tensor times,
                      Tensor::upload(backend_, sinusoids, {steps, kTimestepChannels}));
  FO_ASSIGN_OR_RETURN(Tensor time_embedding, allocate({steps, d}));
  FO_RETURN_IF_ERROR(embedder(weights_.timestep, times, time_embedding));
  if (config_.guidance_embeds) {
    const auto row = timestep_embedding(kTimeScale * setup.guidance, kTimestepChannels);
    std::vector<float> rows;
    for (int64_t t = 0; t < steps; ++t) rows.insert(rows.end(), row.begin(), row.end());
    FO_ASSIGN_OR_RETURN(Tensor g, Tensor::upload(backend_, rows, {steps, kTimestepChannels}));
    FO_ASSIGN_OR_RETURN(Tensor guidance_embedding, allocate({steps, d}));
    FO_RETURN_IF_ERROR(embedder(weights_.guidance, g, guidance_embedding));
    FO_RETURN_IF_ERROR(backend_.combine(
        exec_,
        {.x = time_embedding, .y = guidance_embedding, .a = 1.f, .b = 1.f, .out = time_embedding}));
  }

  streams_.clear();
  for (const Conditioning& c : setup.streams) {
    StreamState s;
    // The pooled text is repeated per step, so that the sum is one elementwise operation.
    std::vector<float> pooled;
    for (int64_t t = 0; t < steps; ++t) {
      pooled.insert(pooled.end(), c.pooled.begin(), c.pooled.end());
    }
    FO_ASSIGN_OR_RETURN(Tensor p,
                        Tensor::upload(backend_, pooled, {steps, config_.pooled_projection_dim}));
    FO_ASSIGN_OR_RETURN(Tensor temb, allocate({steps, d}));
    FO_RETURN_IF_ERROR(embedder(weights_.pooled, p, temb));
    FO_RETURN_IF_ERROR(
        backend_.combine(exec_, {.x = time_embedding, .y = temb, .a = 1.f, .b = 1.f, .out = temb}));
    FO_RETURN_IF_ERROR(
        backend_.activation(exec_, {.x = temb, .activation = Activation::kSilu, .out = temb}));

    auto modulation = [&](const Weight& w) -> Result<Tensor> {
      FO_ASSIGN_OR_RETURN(Tensor rows, allocate({steps, w->out_features()}));
      LinearParams l{.x = temb, .weight = w.get()};
      l.out = rows;
      FO_RETURN_IF_ERROR(backend_.linear(exec_, l));
      return rows;
    };
    for (const DoubleBlockWeights& b : weights_.double_blocks) {
      FO_ASSIGN_OR_RETURN(Tensor image, modulation(b.image.modulation));
      FO_ASSIGN_OR_RETURN(Tensor text, modulation(b.text.modulation));
      s.image_modulation.push_back(std::move(image));
      s.text_modulation.push_back(std::move(text));
    }
    for (const SingleBlockWeights& b : weights_.single_blocks) {
      FO_ASSIGN_OR_RETURN(Tensor rows, modulation(b.modulation));
      s.single_modulation.push_back(std::move(rows));
    }
    FO_ASSIGN_OR_RETURN(s.out_modulation, modulation(weights_.norm_out));

    FO_ASSIGN_OR_RETURN(Tensor states,
                        Tensor::upload(backend_, c.encoder_hidden_states,
                                       {1, setup.text_tokens, config_.joint_attention_dim}));
    FO_ASSIGN_OR_RETURN(
        s.text, Tensor::allocate(backend_, backend_.activation_dtype(), {1, setup.text_tokens, d}));
    LinearParams l{.x = states, .weight = weights_.context_embedder.get()};
    l.out = s.text;
    FO_RETURN_IF_ERROR(backend_.linear(exec_, l));
    streams_.push_back(std::move(s));
  }
  return ok_status();
}

Status FluxTransformer::allocate_activations(const RunSetup& setup) {
  const int64_t n = static_cast<int64_t>(setup.ids.size());
  const int64_t d = config_.width(), h = config_.num_attention_heads;
  const int64_t hd = config_.attention_head_dim;
  const DType dtype = backend_.activation_dtype();
  auto allocate = [&](Tensor& t, std::initializer_list<int64_t> dims) -> Status {
    FO_ASSIGN_OR_RETURN(t, Tensor::allocate(backend_, dtype, dims));
    return ok_status();
  };
  input_ = {};
  if (dtype != DType::kF32) {
    FO_RETURN_IF_ERROR(allocate(input_, {1, n - setup.text_tokens, config_.in_channels}));
  }
  FO_RETURN_IF_ERROR(allocate(x_, {1, n, d}));
  FO_RETURN_IF_ERROR(allocate(norm_, {1, n, d}));
  FO_RETURN_IF_ERROR(allocate(q_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(k_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(v_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(attn_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(mlp_, {1, n, config_.mlp_width()}));
  return allocate(module_out_, {1, n, d});
}

// An upper bound of the workspace any operation of this model needs. REQUIRES the activations.
size_t FluxTransformer::required_workspace(int64_t steps) const {
  size_t bytes = 0;
  auto linear = [&](const Weight& w, DType dtype, int64_t rows, bool gated) {
    LinearParams p{.x = shape_only(dtype, {1, rows, w->in_features()}), .weight = w.get()};
    const TensorView y = shape_only(dtype, {1, rows, w->out_features()});
    (gated ? p.residual : p.out) = y;
    if (gated) p.gate = shape_only(DType::kF32, {1, w->out_features()});
    bytes = std::max(bytes, backend_.workspace_bytes(p));
  };
  auto once = [&](const Weight& w, int64_t rows) { linear(w, DType::kF32, rows, false); };
  const DType dtype = x_.view().dtype;
  linear(weights_.x_embedder, dtype, tokens_, false);
  once(weights_.context_embedder, text_tokens_);
  once(weights_.norm_out, steps);
  linear(weights_.proj_out, dtype, tokens_, false);
  for (const EmbedderWeights* e : {&weights_.timestep, &weights_.guidance, &weights_.pooled}) {
    if (e->linear_1) once(e->linear_1, steps);
    if (e->linear_2) once(e->linear_2, steps);
  }
  auto projections = [&](const Weight& q, const Weight& out, const TensorView& mlp) {
    GemmQParams one{.x = norm_, .weight = q.get()};
    one.out = q_;
    GemmOParams go{.attn = attn_, .mlp = mlp, .weight = out.get(), .rows = tokens_};
    go.out = x_;
    const AttentionParams at{.q = q_, .k = k_, .v = v_, .out = attn_};
    bytes = std::max({bytes, backend_.workspace_bytes(one), backend_.workspace_bytes(go),
                      backend_.workspace_bytes(GemmQkvParams{.q = one, .k = one, .v = one}),
                      backend_.workspace_bytes(at)});
  };
  for (const DoubleBlockWeights& b : weights_.double_blocks) {
    for (const StreamWeights* s : {&b.image, &b.text}) {
      once(s->modulation, steps);
      linear(s->ff_in, dtype, tokens_, false);
      linear(s->ff_out, dtype, tokens_, true);
      projections(s->attention.q, s->attention.out, {});
    }
  }
  for (const SingleBlockWeights& b : weights_.single_blocks) {
    once(b.modulation, steps);
    linear(b.mlp, dtype, tokens_, false);
    projections(b.q, b.out, mlp_);
  }
  return bytes;
}

std::vector<LayerDesc> FluxTransformer::describe_layers() const {
  const double n = tokens_, d = config_.width(), mlp = config_.mlp_width();
  const int image = tokens_ - text_tokens_;
  LayerDesc base;
  base.model_width = config_.width();
  base.flops_q = 2 * n * d * d;
  base.flops_attn = 4 * n * n * d;
  base.flops_out = 2 * n * d * d;
  base.flops_other = 2 * n * (2 * d * d + 2 * d * mlp);  // K, V and the MLP
  std::vector<LayerDesc> out;
  for (int i = 0; i < config_.num_layers; ++i) {
    LayerDesc l = base;
    l.name = "transformer_blocks." + std::to_string(i);
    l.sites = {{"img_attn", image, config_.width()},
               {"img_mlp", image, config_.width()},
               {"txt_attn", text_tokens_, config_.width()},
               {"txt_mlp", text_tokens_, config_.width()}};
    out.push_back(l);
  }
  for (int i = 0; i < config_.num_single_layers; ++i) {
    LayerDesc l = base;
    l.name = "single_transformer_blocks." + std::to_string(i);
    l.sites = {{"total", tokens_, config_.width()}};
    out.push_back(l);
  }
  return out;
}

Status FluxTransformer::begin_run(Engine& engine, const RunSetup& setup) {
  const int tokens = static_cast<int>(setup.ids.size());
  const int image = tokens - setup.text_tokens;
  if (setup.text_tokens < 1 || image < 1) {
    return invalid_argument("a run of " + std::to_string(setup.text_tokens) + " text and " +
                            std::to_string(image) + " image tokens, wanted at least 1 of each");
  }
  if (setup.output_tokens < 1 || setup.output_tokens > image) {
    return invalid_argument("output of " + std::to_string(setup.output_tokens) +
                            " tokens, wanted 1 to " + std::to_string(image));
  }
  for (const Conditioning& c : setup.streams) {
    const size_t want = size_t(setup.text_tokens) * size_t(config_.joint_attention_dim);
    if (c.encoder_hidden_states.size() != want ||
        c.pooled.size() != size_t(config_.pooled_projection_dim)) {
      return invalid_argument(
          "text conditioning of " + std::to_string(c.encoder_hidden_states.size()) + " and " +
          std::to_string(c.pooled.size()) + " values, wanted " + std::to_string(want) + " and " +
          std::to_string(config_.pooled_projection_dim));
    }
  }
  text_tokens_ = setup.text_tokens;
  tokens_ = tokens;
  output_tokens_ = setup.output_tokens;

  FO_RETURN_IF_ERROR(allocate_activations(setup));
  const size_t bytes = required_workspace(static_cast<int64_t>(setup.sigmas.size()));
  FO_ASSIGN_OR_RETURN(workspace_, backend_.allocate(std::max<size_t>(1, bytes)));
  exec_ = {nullptr, workspace_->data(), workspace_->bytes()};
  FO_ASSIGN_OR_RETURN(rope_, make_rope(backend_, setup.ids, config_.axes_dims_rope, kRopeTheta,
                                       config_.attention_head_dim));
  FO_RETURN_IF_ERROR(embed_conditioning(setup));

  RunInfo run;
  run.steps = static_cast<int>(setup.sigmas.size());
  run.streams = static_cast<int>(setup.streams.size());
  std::vector<LayerDesc> layers = describe_layers();
  run.layers = static_cast<int>(layers.size());
  run.sequence = {.batch = 1,
                  .heads = config_.num_attention_heads,
                  .head_dim = config_.attention_head_dim,
                  .tokens = tokens_,
                  .text_begin = 0,
                  .text_end = text_tokens_};
  return engine.begin_run(run, std::move(layers), exec_);
}

size_t FluxTransformer::activation_bytes() const {
  size_t n = workspace_ ? workspace_->bytes() : 0;
  for (const Tensor* t : {&input_, &x_, &norm_, &q_, &k_, &v_, &attn_, &mlp_, &module_out_}) {
    n += t->bytes();
  }
  n += rope_.cos.bytes() + rope_.sin.bytes();
  for (const StreamState& s : streams_) n += s.bytes();
  return n;
}

void FluxTransformer::tap(const std::string& name) {
  if (!tap_) return;
  tap_(name, x_.view().slice(1, text_tokens_, tokens_), x_.view().slice(1, 0, text_tokens_));
}

Status FluxTransformer::forward(Engine& engine, int step, int stream, const TensorView& hidden,
                                const TensorView& out) {
  const StreamState& s = streams_[size_t(stream)];
  backend_.set_scope("embed");
  const TensorView image = x_.view().slice(1, text_tokens_, tokens_);
  FO_RETURN_IF_ERROR(
      backend_.copy(exec_, {.src = s.text.view(), .dst = x_.view().slice(1, 0, text_tokens_)}));
  LinearParams embed{.x = hidden, .weight = weights_.x_embedder.get()};
  if (input_) {
    FO_RETURN_IF_ERROR(backend_.activation(
        exec_, {.x = hidden, .activation = Activation::kNone, .out = input_.view()}));
    embed.x = input_;
  }
  embed.out = image;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, embed));
  tap("embed");
  for (int i = 0; i < config_.num_layers; ++i) {
    FO_RETURN_IF_ERROR(double_block(engine, i, step, stream));
    tap("transformer_blocks." + std::to_string(i));
  }
  for (int i = 0; i < config_.num_single_layers; ++i) {
    FO_RETURN_IF_ERROR(single_block(engine, i, step, stream));
    tap("single_transformer_blocks." + std::to_string(i));
  }
  backend_.set_scope("output");
  // AdaLayerNormContinuous: scale first, then shift (the other modulations are shift, scale).
  const TensorView wanted = image.slice(1, 0, output_tokens_);
  const TensorView norm = norm_.view().slice(1, text_tokens_, text_tokens_ + output_tokens_);
  const int64_t d = config_.width();
  FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = wanted,
                                                    .scale = s.chunk(s.out_modulation, step, 0, d),
                                                    .shift = s.chunk(s.out_modulation, step, 1, d),
                                                    .out = norm}));
  LinearParams project{.x = norm, .weight = weights_.proj_out.get()};
  project.out = out;
  return backend_.linear(exec_, project);
}

}  // namespace flashomni::flux

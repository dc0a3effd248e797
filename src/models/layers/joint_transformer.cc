// SPDX-License-Identifier: Apache-2.0
//
// Set-up of a run, and the output head; the blocks are in joint_blocks.cc.
#include "models/layers/joint_transformer.h"

#include <algorithm>

#include "models/layers/joint_modulation.h"
#include "models/layers/timestep_embedding.h"
#include "models/layers/workspace_size.h"

namespace flashomni {

JointTransformer::JointTransformer(Backend& backend) : backend_(backend) {}
JointTransformer::~JointTransformer() = default;

Status JointTransformer::load(const JointConfig& config, WeightLoader& loader) {
  config_ = config;
  const TensorView heads =
      shape_only(backend_.activation_dtype(), {1, 1, config.heads, config.head_dim});
  FO_RETURN_IF_ERROR(
      backend_.supports(AttentionParams{.q = heads, .k = heads, .v = heads, .out = heads}));
  FO_ASSIGN_OR_RETURN(weights_, load_joint_weights(config, loader));
  return ok_status();
}

// MLP(timestep) [+ MLP(guidance)], [steps, D].
Result<Tensor> JointTransformer::embed_times(const JointRun& run) const {
  const int64_t channels = weights_.timestep.linear_1->in_features();
  auto embed = [&](const EmbedderWeights& w, auto&& time_of_step) -> Result<Tensor> {
    std::vector<float> sinusoids;
    for (int t = 0; t < steps_; ++t) {
      const auto row = timestep_embedding(time_of_step(t), static_cast<int>(channels));
      sinusoids.insert(sinusoids.end(), row.begin(), row.end());
    }
    FO_ASSIGN_OR_RETURN(Tensor in, Tensor::upload(backend_, sinusoids, {steps_, channels}));
    FO_ASSIGN_OR_RETURN(Tensor out,
                        Tensor::allocate(backend_, DType::kF32, {steps_, config_.width()}));
    FO_RETURN_IF_ERROR(run_embedder(backend_, exec_, w, in, out));
    return out;
  };
  FO_ASSIGN_OR_RETURN(Tensor times,
                      embed(weights_.timestep, [&](int t) { return run.times[size_t(t)]; }));
  if (!config_.guidance) return times;
  FO_ASSIGN_OR_RETURN(const Tensor guidance,
                      embed(weights_.guidance, [&](int) { return run.guidance; }));
  FO_RETURN_IF_ERROR(backend_.combine(
      exec_, {.x = times, .y = guidance, .a = 1.f, .b = 1.f, .out = times.view()}));
  FO_RETURN_IF_ERROR(backend_.synchronize(exec_));
  return times;
}

// temb = MLP(timestep) [+ MLP(guidance)] + MLP(pooled) depends only on the step and the stream, and
// so do all modulations: one GEMM per block over all steps here replaces one GEMV per step.
Status JointTransformer::modulate(const JointRun& run) {
  FO_ASSIGN_OR_RETURN(const Tensor times, embed_times(run));
  modulations_.clear();
  columns_ = std::make_unique<ModulationColumns>();
  ModulationColumns& c = *columns_;
  int64_t widest = 0;
  auto place = [&](const Weight& w) {
    const int64_t begin = c.count;
    c.count += w->out_features();
    widest = std::max(widest, w->out_features());
    return begin;
  };
  for (const DoubleBlockWeights& b : weights_.double_blocks) {
    c.latents.push_back(place(b.latents.modulation));
    c.text.push_back(place(b.text.modulation));
  }
  for (const SingleBlockWeights& b : weights_.single_blocks) {
    c.single.push_back(place(b.modulation));
  }
  c.out = place(weights_.norm_out);
  FO_ASSIGN_OR_RETURN(modulation_, Tensor::allocate(backend_, DType::kF32, {1, c.count}));
  FO_ASSIGN_OR_RETURN(const Tensor room, Tensor::allocate(backend_, DType::kF32, {steps_, widest}));
  for (const std::span<const float> values : run.pooled) {
    // The pooled text is repeated per step, so that the sum is one elementwise operation.
    std::vector<float> repeated;
    for (int t = 0; t < steps_; ++t) repeated.insert(repeated.end(), values.begin(), values.end());
    FO_ASSIGN_OR_RETURN(Tensor pooled,
                        Tensor::upload(backend_, repeated, {steps_, config_.pooled_width}));
    FO_ASSIGN_OR_RETURN(Tensor temb,
                        Tensor::allocate(backend_, DType::kF32, {steps_, config_.width()}));
    FO_RETURN_IF_ERROR(run_embedder(backend_, exec_, weights_.pooled, pooled, temb));
    FO_RETURN_IF_ERROR(
        backend_.combine(exec_, {.x = times, .y = temb, .a = 1.f, .b = 1.f, .out = temb.view()}));
    FO_RETURN_IF_ERROR(
        backend_.activation(exec_, {.x = temb, .activation = Activation::kSilu, .out = temb}));

    Modulation m;
    FO_ASSIGN_OR_RETURN(m.rows, Tensor::allocate(backend_, DType::kF32, {steps_, c.count}));
    auto fill = [&](const Weight& w, int64_t begin) -> Status {
      const int64_t width = w->out_features();
      LinearParams l{.x = temb, .weight = w.get()};
      l.out = TensorView::contiguous(room.view().data, DType::kF32, {steps_, width});
      FO_RETURN_IF_ERROR(backend_.linear(exec_, l));
      return backend_.copy(exec_,
                           {.src = l.out, .dst = m.rows.view().slice(1, begin, begin + width)});
    };
    for (size_t i = 0; i < weights_.double_blocks.size(); ++i) {
      const DoubleBlockWeights& b = weights_.double_blocks[i];
      FO_RETURN_IF_ERROR(fill(b.latents.modulation, c.latents[i]));
      FO_RETURN_IF_ERROR(fill(b.text.modulation, c.text[i]));
    }
    for (size_t i = 0; i < weights_.single_blocks.size(); ++i) {
      FO_RETURN_IF_ERROR(fill(weights_.single_blocks[i].modulation, c.single[i]));
    }
    FO_RETURN_IF_ERROR(fill(weights_.norm_out, c.out));
    FO_RETURN_IF_ERROR(backend_.synchronize(exec_));
    modulations_.push_back(std::move(m));
  }
  return ok_status();
}

Status JointTransformer::allocate_activations() {
  const int64_t n = layout_.tokens(), d = config_.width(), h = config_.heads;
  const int64_t hd = config_.head_dim;
  const DType dtype = backend_.activation_dtype();
  auto allocate = [&](Tensor& t, std::initializer_list<int64_t> dims) -> Status {
    FO_ASSIGN_OR_RETURN(t, Tensor::allocate(backend_, dtype, dims));
    return ok_status();
  };
  FO_RETURN_IF_ERROR(allocate(x_, {1, n, d}));
  FO_RETURN_IF_ERROR(allocate(norm_, {1, n, d}));
  FO_RETURN_IF_ERROR(allocate(q_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(k_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(v_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(attn_, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(mlp_, {1, n, config_.mlp_width}));
  return allocate(module_out_, {1, n, d});
}

// An upper bound of the workspace any operation of this part needs. REQUIRES the activations.
size_t JointTransformer::required_workspace(int64_t steps) const {
  WorkspaceSize size(backend_);
  const DType dtype = x_.view().dtype;
  const int64_t n = layout_.tokens();
  auto modulation = [&](const Weight& w) { size.linear(w, DType::kF32, steps); };
  for (const EmbedderWeights* e : {&weights_.timestep, &weights_.guidance, &weights_.pooled}) {
    if (e->linear_1) modulation(e->linear_1);
    if (e->linear_2) modulation(e->linear_2);
  }
  modulation(weights_.norm_out);
  size.linear(weights_.proj_out, dtype, n, DType::kF32);
  auto attention = [&](const Weight& q, const Weight& out, const TensorView& mlp) {
    GemmQParams one{.x = norm_, .weight = q.get()};
    one.out = q_;
    GemmOParams o{.attn = attn_, .mlp = mlp, .weight = out.get(), .rows = layout_.tokens()};
    o.out = x_;
    size.add(GemmQkvParams{.q = one, .k = one, .v = one});
    size.add(o);
    size.attention({.q = q_, .k = k_, .v = v_, .out = attn_});
  };
  for (const DoubleBlockWeights& b : weights_.double_blocks) {
    for (const StreamWeights* s : {&b.latents, &b.text}) {
      modulation(s->modulation);
      size.linear(s->ff_in, dtype, n);
      size.gated_linear(s->ff_out, dtype, n);
      attention(s->attention.q, s->attention.out, {});
    }
  }
  for (const SingleBlockWeights& b : weights_.single_blocks) {
    modulation(b.modulation);
    size.linear(b.mlp, dtype, n);
    attention(b.q, b.out, mlp_);
  }
  return size.bytes();
}

std::vector<LayerDesc> JointTransformer::describe_layers() const {
  const double n = layout_.tokens(), d = config_.width(), mlp = config_.mlp_width;
  const int latents = layout_.latents.size(), text = layout_.text.size();
  LayerDesc base;
  base.model_width = config_.width();
  base.flops_q = 2 * n * d * d;
  base.flops_attn = 4 * n * n * d;
  base.flops_out = 2 * n * d * d;
  base.flops_other = 2 * n * (2 * d * d + 2 * d * mlp);  // K, V and the MLP
  std::vector<LayerDesc> out;
  for (int i = 0; i < config_.double_layers; ++i) {
    LayerDesc l = base;
    l.name = "transformer_blocks." + std::to_string(i);
    l.sites = {{"img_attn", latents, config_.width()},
               {"img_mlp", latents, config_.width()},
               {"txt_attn", text, config_.width()},
               {"txt_mlp", text, config_.width()}};
    out.push_back(l);
  }
  for (int i = 0; i < config_.single_layers; ++i) {
    LayerDesc l = base;
    l.name = "single_transformer_blocks." + std::to_string(i);
    l.sites = {{"total", layout_.tokens(), config_.width()}};
    out.push_back(l);
  }
  return out;
}

Status JointTransformer::begin_run(const JointRun& run) {
  layout_ = run.layout;
  steps_ = static_cast<int>(run.times.size());
  FO_RETURN_IF_ERROR(allocate_activations());
  const size_t bytes = std::max({size_t{1}, run.workspace_bytes, required_workspace(steps_)});
  FO_ASSIGN_OR_RETURN(workspace_, backend_.allocate(bytes));
  exec_ = {nullptr, workspace_->data(), workspace_->bytes()};
  FO_ASSIGN_OR_RETURN(
      rope_, make_rope(backend_, run.ids, run.rope_axes, run.rope_theta, config_.head_dim));
  return modulate(run);
}

Status JointTransformer::begin_engine(Engine& engine) {
  RunInfo run;
  run.steps = steps_;
  run.streams = static_cast<int>(modulations_.size());
  std::vector<LayerDesc> layers = describe_layers();
  run.layers = static_cast<int>(layers.size());
  run.sequence = {.batch = 1,
                  .heads = config_.heads,
                  .head_dim = config_.head_dim,
                  .tokens = layout_.tokens(),
                  .text_begin = layout_.text.begin,
                  .text_end = layout_.text.end,
                  .grid = layout_.grid};
  // Latents whose velocity nobody wants are those of a given picture.
  if (layout_.output_tokens < layout_.latents.size()) {
    run.sequence.reference_begin = layout_.latents.begin + layout_.output_tokens;
    run.sequence.reference_end = layout_.latents.end;
  }
  run.token_order = layout_.token_order;
  return engine.begin_run(run, std::move(layers), exec_);
}

size_t JointTransformer::activation_bytes() const {
  size_t n = workspace_ ? workspace_->bytes() : 0;
  for (const Tensor* t : {&x_, &norm_, &q_, &k_, &v_, &attn_, &mlp_, &module_out_}) {
    n += t->bytes();
  }
  n += rope_.cos.bytes() + rope_.sin.bytes();
  for (const Modulation& m : modulations_) n += m.rows.bytes();
  n += modulation_.bytes();
  return n;
}

void JointTransformer::tap(const std::string& name) const {
  if (tap_) tap_(name, latents(), text());
}

Status JointTransformer::begin_step(int step, int stream) {
  const TensorView rows = modulations_[size_t(stream)].rows.view().slice(0, step, step + 1);
  return backend_.copy(exec_, {.src = rows, .dst = modulation_.view()});
}

Status JointTransformer::blocks(Engine& engine) {
  tap("embed");
  if (engine.wants_probe()) FO_RETURN_IF_ERROR(probe_first_input(engine));
  const int layers = config_.double_layers + config_.single_layers;
  for (int layer = 0;; ++layer) {
    FO_ASSIGN_OR_RETURN(layer, engine.next_layer(layer, x_));
    if (layer == layers) return ok_status();
    const int single = layer - config_.double_layers;
    if (single < 0) {
      FO_RETURN_IF_ERROR(double_block(engine, layer));
      tap("transformer_blocks." + std::to_string(layer));
    } else {
      FO_RETURN_IF_ERROR(single_block(engine, single));
      tap("single_transformer_blocks." + std::to_string(single));
    }
  }
}

Status JointTransformer::output(const TensorView& out) {
  backend_.set_scope("output");
  // AdaLayerNormContinuous: scale first, then shift (the other modulations are shift, scale).
  const TensorView wanted = latents().slice(1, 0, layout_.output_tokens);
  const TensorView norm = rows(norm_, layout_.latents).slice(1, 0, layout_.output_tokens);
  FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = wanted,
                                                    .scale = chunk(columns_->out, 0),
                                                    .shift = chunk(columns_->out, 1),
                                                    .out = norm}));
  LinearParams project{.x = norm, .weight = weights_.proj_out.get()};
  project.out = out;
  return backend_.linear(exec_, project);
}

}  // namespace flashomni

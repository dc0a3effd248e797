// SPDX-License-Identifier: Apache-2.0
//
// Loading, set-up of a run, and the forward pass; the block is in blocks.cc.
#include "models/wan/transformer.h"

#include <algorithm>

#include "models/checkpoint.h"
#include "models/layers/timestep_embedding.h"
#include "models/layers/token_order.h"
#include "models/layers/workspace_size.h"

namespace flashomni::wan {
namespace {

constexpr double kRopeTheta = 10000.0;

}  // namespace

Result<std::unique_ptr<WanTransformer>> WanTransformer::load(Backend& backend,
                                                             const std::string& folder) {
  FO_ASSIGN_OR_RETURN(const WanConfig config, load_wan_config(folder + "/config.json"));
  return load_checkpoint<WanTransformer>(backend, config, folder);
}

Result<std::unique_ptr<WanTransformer>> WanTransformer::make(Backend& backend,
                                                             const WanConfig& config,
                                                             WeightLoader& loader) {
  std::unique_ptr<WanTransformer> m(new WanTransformer(backend));
  m->config_ = config;
  FO_ASSIGN_OR_RETURN(m->weights_, load_wan_weights(config, backend, loader));
  m->embedder_.set_weight(m->weights_.patch_embedding);
  m->parameters_ = loader.parameters();
  m->weight_bytes_ = loader.packed_bytes();
  m->unused_ = loader.unused();
  return m;
}

Status WanTransformer::check_setup(const RunSetup& setup) const {
  const int longest = std::max({setup.frames, setup.rows, setup.cols});
  if (setup.frames < 1 || setup.rows < 1 || setup.cols < 1 || longest > config_.rope_max_seq_len) {
    return invalid_argument("latents of " + std::to_string(setup.frames) + "x" +
                            std::to_string(setup.rows) + "x" + std::to_string(setup.cols) +
                            " tokens (frames, rows, columns), wanted 1 to " +
                            std::to_string(config_.rope_max_seq_len) + " of each");
  }
  if (setup.text_tokens < 1) {
    return invalid_argument("a run of " + std::to_string(setup.text_tokens) +
                            " text tokens, wanted at least 1");
  }
  FO_RETURN_IF_ERROR(check_token_order(setup.token_order, setup.frames * setup.rows * setup.cols));
  const size_t want = size_t(setup.text_tokens) * size_t(config_.text_dim);
  for (const Conditioning& c : setup.streams) {
    if (c.encoder_hidden_states.size() != want) {
      return invalid_argument("text conditioning of " +
                              std::to_string(c.encoder_hidden_states.size()) + " values, wanted " +
                              std::to_string(want));
    }
  }
  return ok_status();
}

Status WanTransformer::allocate_activations() {
  const int64_t n = tokens_, d = config_.width(), h = config_.num_attention_heads;
  const int64_t hd = config_.attention_head_dim;
  const DType dtype = backend_.activation_dtype();
  auto allocate = [&](Tensor& t, std::initializer_list<int64_t> dims) -> Status {
    FO_ASSIGN_OR_RETURN(t, Tensor::allocate(backend_, dtype, dims));
    return ok_status();
  };
  FO_RETURN_IF_ERROR(allocate(x_, {1, n, d}));
  FO_RETURN_IF_ERROR(allocate(norm_, {1, n, d}));
  for (Tensor* t : {&q_, &k_, &v_, &attn_}) FO_RETURN_IF_ERROR(allocate(*t, {1, n, h, hd}));
  FO_RETURN_IF_ERROR(allocate(mlp_, {1, n, config_.ffn_dim}));
  FO_RETURN_IF_ERROR(allocate(module_out_, {1, n, d}));
  for (Tensor* t : {&modulation_, &time_now_}) {
    FO_ASSIGN_OR_RETURN(*t, Tensor::allocate(backend_, DType::kF32, {1, 6 * d}));
  }
  for (Tensor* t : {&shift_now_, &scale_now_}) {
    FO_ASSIGN_OR_RETURN(*t, Tensor::allocate(backend_, DType::kF32, {1, d}));
  }
  return embedder_.begin_run(n);
}

// An upper bound of the workspace any operation of this model needs. REQUIRES the activations.
size_t WanTransformer::required_workspace() const {
  WorkspaceSize size(backend_);
  const DType dtype = backend_.activation_dtype();
  embedder_.add_workspace(size, tokens_);
  for (const Weight* w : {&weights_.time.linear_1, &weights_.time.linear_2, &weights_.time_proj}) {
    size.linear(*w, DType::kF32, steps_);
  }
  size.linear(weights_.text.linear_1, DType::kF32, text_tokens_);
  size.linear(weights_.text.linear_2, DType::kF32, text_tokens_);
  size.linear(weights_.proj_out, dtype, tokens_, DType::kF32);
  const TensorView text =
      shape_only(dtype, {1, text_tokens_, config_.num_attention_heads, config_.attention_head_dim});
  size.add(AttentionParams{.q = q_, .k = k_, .v = v_, .out = attn_});
  size.add(AttentionParams{.q = q_, .k = text, .v = text, .out = attn_});
  for (const BlockWeights& b : weights_.blocks) {
    for (const AttentionWeights* a : {&b.self, &b.cross}) {
      GemmQParams q{.x = norm_, .weight = a->q.get()};
      q.out = q_;
      size.add(q);
      q.x = shape_only(dtype, {1, text_tokens_, config_.width()});
      q.out = text;
      size.add(q);
    }
    GemmOParams o{.attn = attn_, .weight = b.self.out.get(), .rows = tokens_};
    o.out = x_;
    size.add(o);
    size.gated_linear(b.cross.out, dtype, tokens_);
    size.linear(b.ff_in, dtype, tokens_);
    size.gated_linear(b.ff_out, dtype, tokens_);
  }
  return size.bytes();
}

// temb = MLP(timestep); the blocks take time_proj(silu(temb)), the output norm temb itself.
Status WanTransformer::embed_times(const RunSetup& setup) {
  const int64_t d = config_.width();
  auto allocate = [&](int64_t width) {
    return Tensor::allocate(backend_, DType::kF32, {steps_, width});
  };
  std::vector<float> sinusoids;
  for (const float t : setup.timesteps) {
    const auto row = timestep_embedding(t, config_.freq_dim);
    sinusoids.insert(sinusoids.end(), row.begin(), row.end());
  }
  FO_ASSIGN_OR_RETURN(const Tensor times,
                      Tensor::upload(backend_, sinusoids, {steps_, int64_t{config_.freq_dim}}));
  FO_ASSIGN_OR_RETURN(const Tensor temb, allocate(d));
  FO_RETURN_IF_ERROR(run_embedder(backend_, exec_, weights_.time, times, temb));

  // The output norm's table, the same for every step.
  auto add_table = [&](size_t index, Tensor& out) -> Status {
    const auto begin = weights_.table.begin() + std::ptrdiff_t(index) * d;
    std::vector<float> repeated;
    for (int t = 0; t < steps_; ++t) repeated.insert(repeated.end(), begin, begin + d);
    FO_ASSIGN_OR_RETURN(out, Tensor::upload(backend_, repeated, {steps_, d}));
    return backend_.combine(exec_, {.x = out, .y = temb, .a = 1.f, .b = 1.f, .out = out.view()});
  };
  FO_RETURN_IF_ERROR(add_table(0, out_shift_));
  FO_RETURN_IF_ERROR(add_table(1, out_scale_));

  FO_ASSIGN_OR_RETURN(times_, allocate(6 * d));
  FO_RETURN_IF_ERROR(
      backend_.activation(exec_, {.x = temb, .activation = Activation::kSilu, .out = temb.view()}));
  LinearParams p{.x = temb, .weight = weights_.time_proj.get()};
  p.out = times_;
  FO_RETURN_IF_ERROR(backend_.linear(exec_, p));
  return backend_.synchronize(exec_);
}

Result<std::vector<WanTransformer::TextKeys>> WanTransformer::embed_text(
    const std::vector<float>& states) {
  const int64_t d = config_.width(), h = config_.num_attention_heads;
  const DType dtype = backend_.activation_dtype();
  FO_ASSIGN_OR_RETURN(const Tensor raw,
                      Tensor::upload(backend_, states, {text_tokens_, int64_t{config_.text_dim}}));
  FO_ASSIGN_OR_RETURN(const Tensor text, Tensor::allocate(backend_, dtype, {1, text_tokens_, d}));
  const TensorView rows = TensorView::contiguous(text.view().data, dtype, {text_tokens_, d});
  FO_RETURN_IF_ERROR(
      run_embedder(backend_, exec_, weights_.text, raw, rows, Activation::kGeluTanh));
  std::vector<TextKeys> out;
  for (const BlockWeights& b : weights_.blocks) {
    TextKeys t;
    for (Tensor* one : {&t.k, &t.v}) {
      FO_ASSIGN_OR_RETURN(*one, Tensor::allocate(backend_, dtype,
                                                 {1, text_tokens_, h, config_.attention_head_dim}));
    }
    FO_RETURN_IF_ERROR(project(b.cross.k, text, t.k));
    FO_RETURN_IF_ERROR(project(b.cross.v, text, t.v));
    FO_RETURN_IF_ERROR(normalize(t.k, b.cross.norm_k, {}));
    out.push_back(std::move(t));
  }
  FO_RETURN_IF_ERROR(backend_.synchronize(exec_));
  return out;
}

std::vector<LayerDesc> WanTransformer::describe_layers() const {
  const double n = tokens_, d = config_.width(), text = text_tokens_;
  LayerDesc l;
  l.model_width = config_.width();
  l.sites = {{"self_attn", tokens_, config_.width()},
             {"cross_attn", tokens_, config_.width()},
             {"ffn", tokens_, config_.width()}};
  l.dense_gemm_q = kDenseGemmQ;
  l.flops_q = 2 * n * d * d;
  l.flops_attn = 4 * n * n * d;
  l.flops_out = 2 * n * d * d;
  l.flops_other = 2 * n * d * (2 * d + 2 * d + 2 * config_.ffn_dim)  // K, V; cross Q, O; FFN
                  + 4 * n * text * d;
  std::vector<LayerDesc> out;
  for (int i = 0; i < config_.num_layers; ++i) {
    l.name = "blocks." + std::to_string(i);
    out.push_back(l);
  }
  return out;
}

Status WanTransformer::begin_run(Engine& engine, const RunSetup& setup) {
  FO_RETURN_IF_ERROR(check_setup(setup));
  steps_ = static_cast<int>(setup.timesteps.size());
  streams_ = static_cast<int>(setup.streams.size());
  tokens_ = setup.frames * setup.rows * setup.cols;
  text_tokens_ = setup.text_tokens;
  text_.clear();
  FO_RETURN_IF_ERROR(allocate_activations());
  const size_t bytes = std::max<size_t>(1, required_workspace());
  FO_ASSIGN_OR_RETURN(workspace_, backend_.allocate(bytes));
  exec_ = {nullptr, workspace_->data(), workspace_->bytes()};
  const std::vector<PositionId> positions =
      in_token_order(setup.token_order, grid_positions(0, setup.frames, setup.rows, setup.cols));
  FO_ASSIGN_OR_RETURN(rope_, make_rope(backend_, positions, config_.rope_axes(), kRopeTheta,
                                       config_.attention_head_dim));
  FO_RETURN_IF_ERROR(embed_times(setup));
  for (const Conditioning& c : setup.streams) {
    FO_ASSIGN_OR_RETURN(std::vector<TextKeys> keys, embed_text(c.encoder_hidden_states));
    text_.push_back(std::move(keys));
  }
  RunInfo run;
  run.steps = steps_;
  run.streams = streams_;
  run.layers = config_.num_layers;
  run.sequence = {.batch = 1,
                  .heads = config_.num_attention_heads,
                  .head_dim = config_.attention_head_dim,
                  .tokens = tokens_,
                  .text_begin = 0,
                  .text_end = 0,
                  .grid = {setup.frames, setup.rows, setup.cols}};
  run.token_order = setup.token_order;
  return engine.begin_run(run, describe_layers(), exec_);
}

size_t WanTransformer::activation_bytes() const {
  size_t n = (workspace_ ? workspace_->bytes() : 0) + embedder_.bytes();
  for (const Tensor* t :
       {&rope_.cos, &rope_.sin, &times_, &out_shift_, &out_scale_, &modulation_, &time_now_,
        &shift_now_, &scale_now_, &x_, &norm_, &q_, &k_, &v_, &attn_, &mlp_, &module_out_}) {
    n += t->bytes();
  }
  for (const std::vector<TextKeys>& stream : text_) {
    for (const TextKeys& t : stream) n += t.k.bytes() + t.v.bytes();
  }
  return n;
}

void WanTransformer::tap(const std::string& name) const {
  if (tap_) tap_(name, x_);
}

Status WanTransformer::begin_step(int step) {
  const std::pair<const Tensor*, const Tensor*> rows[] = {
      {&times_, &time_now_}, {&out_shift_, &shift_now_}, {&out_scale_, &scale_now_}};
  for (const auto& [all, now] : rows) {
    FO_RETURN_IF_ERROR(
        backend_.copy(exec_, {.src = all->view().slice(0, step, step + 1), .dst = now->view()}));
  }
  return ok_status();
}

Status WanTransformer::forward(Engine& engine, int step, int stream, const TensorView& hidden,
                               const TensorView& out) {
  backend_.set_scope("embed");
  FO_RETURN_IF_ERROR(begin_step(step));
  FO_RETURN_IF_ERROR(embedder_.run(exec_, hidden, x_));
  tap("embed");
  // TeaCache's signal in Wan is the projected time embedding, not a modulated input.
  if (engine.wants_probe()) {
    const TensorView& time = time_now_;
    FO_RETURN_IF_ERROR(
        engine.probe_input(TensorView::contiguous(time.data, time.dtype, {1, 1, time.size(1)})));
  }
  for (int layer = 0;; ++layer) {
    FO_ASSIGN_OR_RETURN(layer, engine.next_layer(layer, x_));
    if (layer == config_.num_layers) break;
    FO_RETURN_IF_ERROR(block(engine, layer, stream));
    tap("blocks." + std::to_string(layer));
  }
  backend_.set_scope("output");
  FO_RETURN_IF_ERROR(backend_.norm_modulate(exec_, {.x = x_,
                                                    .scale = scale_now_,
                                                    .shift = shift_now_,
                                                    .out = norm_.view(),
                                                    .eps = static_cast<float>(config_.eps)}));
  LinearParams project_out{.x = norm_, .weight = weights_.proj_out.get()};
  project_out.out = out;
  return backend_.linear(exec_, project_out);
}

}  // namespace flashomni::wan

// SPDX-License-Identifier: Apache-2.0
#include "models/flux/transformer.h"

#include "models/checkpoint.h"

namespace flashomni::flux {
namespace {

constexpr float kTimeScale = 1000.f;  // sigma and guidance are embedded as multiples of this

JointConfig joint_config(const FluxConfig& c) {
  return {.heads = c.num_attention_heads,
          .head_dim = c.attention_head_dim,
          .mlp_width = c.mlp_width(),
          .double_layers = c.num_layers,
          .single_layers = c.num_single_layers,
          .pooled_width = c.pooled_projection_dim,
          .guidance = c.guidance_embeds,
          .out_width = c.output_width()};
}

}  // namespace

FluxTransformer::FluxTransformer(Backend& backend)
    : backend_(backend), x_embedder_(backend), joint_(backend) {}

Result<std::unique_ptr<FluxTransformer>> FluxTransformer::load(Backend& backend,
                                                               const std::string& folder) {
  FO_ASSIGN_OR_RETURN(const FluxConfig config, load_flux_config(folder + "/config.json"));
  return load_checkpoint<FluxTransformer>(backend, config, folder);
}

Result<std::unique_ptr<FluxTransformer>> FluxTransformer::make(Backend& backend,
                                                               const FluxConfig& config,
                                                               WeightLoader& loader) {
  std::unique_ptr<FluxTransformer> m(new FluxTransformer(backend));
  m->config_ = config;
  FO_ASSIGN_OR_RETURN(Weight x_embedder,
                      loader.linear("x_embedder", config.width(), config.in_channels));
  m->x_embedder_.set_weight(std::move(x_embedder));
  FO_ASSIGN_OR_RETURN(m->context_embedder_, loader.linear("context_embedder", config.width(),
                                                          config.joint_attention_dim));
  FO_RETURN_IF_ERROR(m->joint_.load(joint_config(config), loader));
  m->parameters_ = loader.parameters();
  m->weight_bytes_ = loader.packed_bytes();
  m->unused_ = loader.unused();
  return m;
}

Status FluxTransformer::check_setup(const RunSetup& setup) const {
  const int image = static_cast<int>(setup.ids.size()) - setup.text_tokens;
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
  return ok_status();
}

// Text is the same in every step, and so is its embedding.
Result<Tensor> FluxTransformer::embed_text(const Conditioning& conditioning, int text_tokens) {
  FO_ASSIGN_OR_RETURN(const Tensor states,
                      Tensor::upload(backend_, conditioning.encoder_hidden_states,
                                     {1, text_tokens, config_.joint_attention_dim}));
  FO_ASSIGN_OR_RETURN(Tensor text, Tensor::allocate(backend_, backend_.activation_dtype(),
                                                    {1, text_tokens, config_.width()}));
  LinearParams l{.x = states, .weight = context_embedder_.get()};
  l.out = text;
  FO_RETURN_IF_ERROR(backend_.linear(exec(), l));
  FO_RETURN_IF_ERROR(backend_.synchronize(exec()));  // the states go now
  return text;
}

Status FluxTransformer::begin_run(Engine& engine, const RunSetup& setup) {
  FO_RETURN_IF_ERROR(check_setup(setup));
  const int text = setup.text_tokens, tokens = static_cast<int>(setup.ids.size());
  JointRun run;
  run.layout.text = {0, text};
  run.layout.latents = {text, tokens};
  run.layout.output_tokens = setup.output_tokens;
  run.layout.grid = setup.grid;
  run.layout.token_order = setup.token_order;
  run.ids = setup.ids;
  run.rope_axes = config_.axes_dims_rope;
  for (const float sigma : setup.sigmas) run.times.push_back(kTimeScale * sigma);
  run.guidance = kTimeScale * setup.guidance;
  for (const Conditioning& c : setup.streams) run.pooled.emplace_back(c.pooled);
  WorkspaceSize size(backend_);
  x_embedder_.add_workspace(size, tokens - text);
  size.linear(context_embedder_, DType::kF32, text, backend_.activation_dtype());
  run.workspace_bytes = size.bytes();

  text_.clear();
  FO_RETURN_IF_ERROR(joint_.begin_run(run));
  FO_RETURN_IF_ERROR(x_embedder_.begin_run(tokens - text));
  for (const Conditioning& c : setup.streams) {
    FO_ASSIGN_OR_RETURN(Tensor embedded, embed_text(c, text));
    text_.push_back(std::move(embedded));
  }
  return joint_.begin_engine(engine);
}

size_t FluxTransformer::activation_bytes() const {
  size_t n = joint_.activation_bytes() + x_embedder_.bytes();
  for (const Tensor& t : text_) n += t.bytes();
  return n;
}

Status FluxTransformer::forward(Engine& engine, int step, int stream, const TensorView& hidden,
                                const TensorView& out) {
  backend_.set_scope("embed");
  FO_RETURN_IF_ERROR(joint_.begin_step(step, stream));
  FO_RETURN_IF_ERROR(backend_.copy(exec(), {.src = text_[size_t(stream)], .dst = joint_.text()}));
  FO_RETURN_IF_ERROR(x_embedder_.run(exec(), hidden, joint_.latents()));
  FO_RETURN_IF_ERROR(joint_.blocks(engine));
  return joint_.output(out);
}

}  // namespace flashomni::flux

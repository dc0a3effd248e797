// SPDX-License-Identifier: Apache-2.0
#include "models/hunyuan_video/transformer.h"

#include "models/checkpoint.h"
#include "models/layers/token_order.h"

namespace flashomni::hunyuan_video {
namespace {

constexpr float kTimeScale = 1000.f;  // sigma and guidance are embedded as multiples of this

JointConfig joint_config(const HunyuanVideoConfig& c) {
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

Result<std::vector<float>> valid_text(std::span<const float> states,
                                      std::span<const uint8_t> mask) {
  if (mask.empty() || states.size() % mask.size() != 0) {
    return invalid_argument("text of " + std::to_string(states.size()) +
                            " values under a mask of " + std::to_string(mask.size()) + " tokens");
  }
  const auto end = std::find(mask.begin(), mask.end(), uint8_t{0});
  if (end == mask.begin()) {
    return invalid_argument("the text mask starts with 0, wanted valid tokens first");
  }
  if (std::any_of(end, mask.end(), [](uint8_t m) { return m != 0; })) {
    return invalid_argument("the text mask has valid tokens after a 0 at position " +
                            std::to_string(end - mask.begin()) + ", wanted all valid tokens first");
  }
  const size_t width = states.size() / mask.size();
  const size_t values = size_t(end - mask.begin()) * width;
  return std::vector<float>(states.begin(), states.begin() + std::ptrdiff_t(values));
}

HunyuanVideoTransformer::HunyuanVideoTransformer(Backend& backend)
    : backend_(backend), x_embedder_(backend), refiner_(backend), joint_(backend) {}

Result<std::unique_ptr<HunyuanVideoTransformer>> HunyuanVideoTransformer::load(
    Backend& backend, const std::string& folder) {
  FO_ASSIGN_OR_RETURN(const HunyuanVideoConfig config,
                      load_hunyuan_video_config(folder + "/config.json"));
  return load_checkpoint<HunyuanVideoTransformer>(backend, config, folder);
}

Result<std::unique_ptr<HunyuanVideoTransformer>> HunyuanVideoTransformer::make(
    Backend& backend, const HunyuanVideoConfig& config, WeightLoader& loader) {
  std::unique_ptr<HunyuanVideoTransformer> m(new HunyuanVideoTransformer(backend));
  m->config_ = config;
  const PatchSize patch = config.patch();
  FO_ASSIGN_OR_RETURN(
      Weight x_embedder,
      loader.linear("x_embedder.proj", config.width(), config.input_width(), 0,
                    {config.width(), config.in_channels, patch.frames, patch.height, patch.width}));
  m->x_embedder_.set_weight(std::move(x_embedder));
  FO_RETURN_IF_ERROR(m->refiner_.load(config, loader));
  FO_RETURN_IF_ERROR(m->joint_.load(joint_config(config), loader));
  m->parameters_ = loader.parameters();
  m->weight_bytes_ = loader.packed_bytes();
  m->unused_ = loader.unused();
  return m;
}

Status HunyuanVideoTransformer::check_setup(const RunSetup& setup) const {
  if (setup.text_tokens < 1) {
    return invalid_argument("a run of " + std::to_string(setup.text_tokens) +
                            " text tokens, wanted at least 1");
  }
  if (setup.frames < 1 || setup.rows < 1 || setup.cols < 1) {
    return invalid_argument("latents of " + std::to_string(setup.frames) + "x" +
                            std::to_string(setup.rows) + "x" + std::to_string(setup.cols) +
                            " tokens (frames, rows, columns), wanted at least 1 of each");
  }
  const int latents = setup.frames * setup.rows * setup.cols;
  FO_RETURN_IF_ERROR(check_token_order(setup.token_order, latents));
  const size_t want = size_t(setup.text_tokens) * size_t(config_.text_embed_dim);
  for (const Conditioning& c : setup.streams) {
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

Status HunyuanVideoTransformer::begin_run(Engine& engine, const RunSetup& setup) {
  FO_RETURN_IF_ERROR(check_setup(setup));
  const int latents = setup.frames * setup.rows * setup.cols;
  JointRun run;
  run.layout.latents = {0, latents};
  run.layout.text = {latents, latents + setup.text_tokens};
  run.layout.output_tokens = latents;
  run.layout.grid = {setup.frames, setup.rows, setup.cols};
  run.layout.token_order = setup.token_order;
  run.ids =
      in_token_order(setup.token_order, grid_positions(0, setup.frames, setup.rows, setup.cols));
  // Text is not rotated: the angle of position 0 is 0.
  run.ids.resize(size_t(run.layout.tokens()), PositionId{0, 0, 0});
  run.rope_axes = config_.rope_axes_dim;
  run.rope_theta = config_.rope_theta;
  for (const float sigma : setup.sigmas) run.times.push_back(kTimeScale * sigma);
  run.guidance = kTimeScale * setup.guidance;
  for (const Conditioning& c : setup.streams) run.pooled.emplace_back(c.pooled);
  WorkspaceSize size(backend_);
  x_embedder_.add_workspace(size, latents);
  refiner_.add_workspace(size, setup.text_tokens, static_cast<int64_t>(run.times.size()));
  run.workspace_bytes = size.bytes();

  text_.clear();
  FO_RETURN_IF_ERROR(joint_.begin_run(run));
  FO_RETURN_IF_ERROR(x_embedder_.begin_run(latents));
  for (const Conditioning& c : setup.streams) {
    FO_ASSIGN_OR_RETURN(Tensor text, refiner_.refine(exec(), c.encoder_hidden_states,
                                                     setup.text_tokens, run.times));
    text_.push_back(std::move(text));
  }
  return joint_.begin_engine(engine);
}

size_t HunyuanVideoTransformer::activation_bytes() const {
  size_t n = joint_.activation_bytes() + x_embedder_.bytes();
  for (const Tensor& t : text_) n += t.bytes();
  return n;
}

Status HunyuanVideoTransformer::forward(Engine& engine, int step, int stream,
                                        const TensorView& hidden, const TensorView& out) {
  backend_.set_scope("embed");
  FO_RETURN_IF_ERROR(joint_.begin_step(step, stream));
  const TensorView text = text_[size_t(stream)].view().slice(0, step, step + 1);
  FO_RETURN_IF_ERROR(backend_.copy(exec(), {.src = text, .dst = joint_.text()}));
  FO_RETURN_IF_ERROR(x_embedder_.run(exec(), hidden, joint_.latents()));
  FO_RETURN_IF_ERROR(joint_.blocks(engine));
  return joint_.output(out);
}

}  // namespace flashomni::hunyuan_video

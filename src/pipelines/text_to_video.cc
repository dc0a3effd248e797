// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text_to_video.h"

#include <cmath>
#include <filesystem>

#include "pipelines/noise.h"
#include "pipelines/token_order.h"

namespace flashomni {
namespace {

using hunyuan_video::HunyuanVideoConfig;

constexpr int kSteps = 50;
constexpr double kGuidance = 6.0;
constexpr double kShift = 7.0;
constexpr int kFrames = 129, kWidth = 1280, kHeight = 720;
constexpr int kMaxSteps = 10000, kMaxSide = 16384, kMaxFrames = 100001;

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Status check_side(const char* name, int pixels, int multiple) {
  if (pixels > 0 && pixels <= kMaxSide && pixels % multiple == 0) return ok_status();
  return invalid_argument(std::string(name) + " is " + std::to_string(pixels) +
                          ", wanted a multiple of " + std::to_string(multiple) + " from " +
                          std::to_string(multiple) + " to " + std::to_string(kMaxSide));
}

// The states of the valid tokens: padding changes nothing but the time it takes.
Result<hunyuan_video::Conditioning> conditioning(const PromptEmbeddings& e) {
  hunyuan_video::Conditioning c{e.states, e.pooled};
  if (!e.mask.empty()) {
    FO_ASSIGN_OR_RETURN(c.encoder_hidden_states, hunyuan_video::valid_text(e.states, e.mask));
  }
  return c;
}

}  // namespace

Result<std::unique_ptr<TextToVideoPipeline>> TextToVideoPipeline::load(Backend& backend,
                                                                       const std::string& folder) {
  std::unique_ptr<TextToVideoPipeline> p(new TextToVideoPipeline(backend));
  p->scheduler_.shift = kShift;
  const std::string scheduler = folder + "/scheduler/scheduler_config.json";
  if (exists(scheduler)) {
    FO_ASSIGN_OR_RETURN(p->scheduler_, load_flow_match_euler(scheduler));
  }
  const std::string inner = folder + "/transformer";
  FO_ASSIGN_OR_RETURN(p->transformer_, hunyuan_video::HunyuanVideoTransformer::load(
                                           backend, exists(inner) ? inner : folder));
  const HunyuanVideoConfig& c = p->transformer_->config();
  if (c.in_channels != c.out_channels) {
    return unsupported(folder + ": the transformer takes " + std::to_string(c.in_channels) +
                       " channels and gives " + std::to_string(c.out_channels) +
                       ", wanted the same");
  }
  return p;
}

bool TextToVideoPipeline::is_guided(const TextToVideoRequest& r) const {
  return r.guidance != 1.0 && !transformer_->config().guidance_embeds;
}

LatentShape TextToVideoPipeline::latent_shape(const TextToVideoRequest& r) const {
  return {transformer_->config().in_channels, (r.frames - 1) / kFramesPerLatent + 1,
          r.height / kPixelsPerLatent, r.width / kPixelsPerLatent};
}

Status TextToVideoPipeline::check_embeddings(const TextToVideoRequest& r) const {
  const HunyuanVideoConfig& c = transformer_->config();
  const auto check = [&](const PromptEmbeddings& e, const std::string& prefix) -> Status {
    if (e.width == c.text_embed_dim &&
        e.pooled.size() == static_cast<size_t>(c.pooled_projection_dim)) {
      return conditioning(e).status();
    }
    return invalid_argument("the embeddings have " + std::to_string(e.width) + " features in " +
                            prefix + "prompt_embeds and " + std::to_string(e.pooled.size()) +
                            " in " + prefix + "pooled_prompt_embeds, the model takes " +
                            std::to_string(c.text_embed_dim) + " and " +
                            std::to_string(c.pooled_projection_dim));
  };
  FO_RETURN_IF_ERROR(check(r.embeddings.prompt, ""));
  if (!is_guided(r)) return ok_status();
  if (!r.embeddings.negative) {
    return invalid_argument(
        "guidance is not 1, for which the embeddings lack negative_prompt_embeds");
  }
  FO_RETURN_IF_ERROR(check(*r.embeddings.negative, "negative_"));
  FO_ASSIGN_OR_RETURN(const auto prompt, conditioning(r.embeddings.prompt));
  FO_ASSIGN_OR_RETURN(const auto negative, conditioning(*r.embeddings.negative));
  const auto tokens = [&](const hunyuan_video::Conditioning& e) {
    return e.encoder_hidden_states.size() / static_cast<size_t>(c.text_embed_dim);
  };
  if (tokens(prompt) == tokens(negative)) return ok_status();
  return unsupported("the prompt has " + std::to_string(tokens(prompt)) +
                     " valid tokens and the negative prompt " + std::to_string(tokens(negative)) +
                     ", wanted the same number");
}

Status TextToVideoPipeline::resolve(TextToVideoRequest& r) const {
  const HunyuanVideoConfig& c = transformer_->config();
  if (r.steps == 0) r.steps = kSteps;
  if (r.frames == 0) r.frames = kFrames;
  if (r.width == 0) r.width = kWidth;
  if (r.height == 0) r.height = kHeight;
  if (r.guidance < 0) r.guidance = c.guidance_embeds ? kGuidance : 1;
  if (r.steps < 1 || r.steps > kMaxSteps) {
    return invalid_argument("steps is " + std::to_string(r.steps) + ", wanted 1 to " +
                            std::to_string(kMaxSteps));
  }
  if (!std::isfinite(r.guidance) || r.guidance > 1000) {
    return invalid_argument("guidance is " + std::to_string(r.guidance) + ", wanted 0 to 1000");
  }
  const PatchSize patch = c.patch();
  const int latent_frames = (r.frames - 1) / kFramesPerLatent + 1;
  if (r.frames < 1 || r.frames > kMaxFrames || r.frames % kFramesPerLatent != 1 ||
      latent_frames % patch.frames != 0) {
    return invalid_argument("frames is " + std::to_string(r.frames) +
                            ", wanted one more than a multiple of " +
                            std::to_string(kFramesPerLatent) + " and whole patches of " +
                            std::to_string(patch.frames) + " latent frames");
  }
  FO_RETURN_IF_ERROR(check_side("width", r.width, kPixelsPerLatent * patch.width));
  FO_RETURN_IF_ERROR(check_side("height", r.height, kPixelsPerLatent * patch.height));
  return check_embeddings(r);
}

Result<TextToVideoResult> TextToVideoPipeline::generate(TextToVideoRequest request,
                                                        std::unique_ptr<Strategy> strategy,
                                                        const EngineOptions& options,
                                                        const ProgressCallback& progress) {
  FO_RETURN_IF_ERROR(resolve(request));
  const HunyuanVideoConfig& c = transformer_->config();
  const LatentShape shape = latent_shape(request);
  const PatchSize patch = c.patch();
  hunyuan_video::RunSetup setup;
  setup.frames = shape.frames / patch.frames;
  setup.rows = shape.height / patch.height;
  setup.cols = shape.width / patch.width;
  const int tokens = setup.frames * setup.rows * setup.cols;
  FO_ASSIGN_OR_RETURN(
      setup.token_order,
      strategy_token_order(strategy.get(), {setup.frames, setup.rows, setup.cols}, tokens));
  const std::vector<float> sigmas = flow_match_sigmas(scheduler_, request.steps, tokens);
  setup.sigmas.assign(sigmas.begin(), sigmas.end() - 1);
  setup.guidance = static_cast<float>(request.guidance);
  FO_ASSIGN_OR_RETURN(hunyuan_video::Conditioning prompt, conditioning(request.embeddings.prompt));
  setup.text_tokens =
      static_cast<int>(prompt.encoder_hidden_states.size() / static_cast<size_t>(c.text_embed_dim));
  setup.streams.push_back(std::move(prompt));
  const bool guided = is_guided(request);
  if (guided) {
    FO_ASSIGN_OR_RETURN(hunyuan_video::Conditioning negative,
                        conditioning(*request.embeddings.negative));
    setup.streams.push_back(std::move(negative));
  }

  const auto values = static_cast<size_t>(shape.values());
  if (request.noise.empty()) {
    FO_ASSIGN_OR_RETURN(request.noise,
                        latents_to_tokens(torch_randn(request.seed, values), shape, patch));
  }
  if (request.noise.size() != values) {
    return invalid_argument("noise of " + std::to_string(request.noise.size()) +
                            " values, wanted " + std::to_string(values));
  }
  Engine engine(backend_, std::move(strategy), options);
  FO_RETURN_IF_ERROR(transformer_->begin_run(engine, setup));
  const auto width = static_cast<size_t>(c.input_width());
  const std::vector<float> input = to_order(setup.token_order, request.noise, width);
  FO_ASSIGN_OR_RETURN(Tensor x, Tensor::upload(backend_, input, {1, tokens, c.input_width()}));
  Denoising run{.exec = transformer_->exec(), .sigmas = sigmas, .streams = guided ? 2 : 1};
  run.guidance = request.guidance;
  run.input = run.latents = x;
  run.evaluate = [&](int step, int stream, const TensorView& in, const TensorView& out) {
    return transformer_->forward(engine, step, stream, in, out);
  };
  TextToVideoResult out;
  FO_ASSIGN_OR_RETURN(out.seconds, denoise(backend_, engine, run, progress));
  out.latents.resize(values);
  FO_RETURN_IF_ERROR(backend_.download(transformer_->exec(), out.latents.data(), run.latents.data,
                                       values * sizeof(float)));
  for (const float v : out.latents) {
    if (!std::isfinite(v)) return internal_error("the result holds NaN or infinity");
  }
  out.latents = from_order(setup.token_order, out.latents, width);
  out.report = engine.report();
  out.activation_bytes = transformer_->activation_bytes();
  return out;
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text_to_image.h"

#include <algorithm>
#include <cmath>

#include "io/json.h"
#include "pipelines/noise.h"
#include "pipelines/pixel_patches.h"
#include "pipelines/token_order.h"

namespace flashomni {
namespace {

constexpr int kMaxSteps = 10000;
constexpr int kMaxSide = 16384;  // pixels
constexpr int kVaePixels = 8;    // per side of a latent of FLUX's VAE
constexpr int kFluxPatch = 2;    // latents per side of a token

// FLUX.1-dev; diffusers' own defaults.
TextToImageDefaults plain_flux_defaults() {
  TextToImageDefaults d;
  d.family = "flux";
  d.edit_family = "flux_kontext";
  d.pixels = false;
  d.width = d.height = 1024;
  d.patch = kVaePixels * kFluxPatch;
  d.steps = 28;
  d.guidance = d.edit_guidance = 3.5;
  return d;
}

Result<TextToImageDefaults> load_defaults(const std::string& path) {
  FO_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  if (!json.is_object()) return corrupt_file(path + ": not a JSON object");
  JsonFields index(json, path);
  const std::string class_name = index.text("_class_name", "");
  if (class_name != "FluxPipeline" && class_name != "FluxKontextPipeline") {
    return unsupported(path + ": pipeline is '" + class_name +
                       "', wanted FluxPipeline or FluxKontextPipeline");
  }
  TextToImageDefaults d;
  d.family = d.edit_family = "emoji_flux";
  if (!json.contains(d.family)) {
    FO_RETURN_IF_ERROR(index.status());
    return plain_flux_defaults();
  }
  if (!json[d.family].is_object()) {
    return corrupt_file(path + ": 'emoji_flux' is no object");
  }
  JsonFields f(json[d.family], path + ": emoji_flux");
  d.patch = static_cast<int>(f.integer("pixel_patch", d.patch, 1, 256));
  d.width = static_cast<int>(f.integer("width", d.width, 1, kMaxSide));
  d.height = static_cast<int>(f.integer("height", d.height, 1, kMaxSide));
  d.steps = static_cast<int>(f.integer("num_inference_steps", d.steps, 1, kMaxSteps));
  d.guidance = f.number("guidance_scale", d.guidance, 0, 1000);
  d.edit_guidance = f.number("edit_guidance_scale", d.edit_guidance, 0, 1000);
  FO_RETURN_IF_ERROR(index.status());
  FO_RETURN_IF_ERROR(f.status());
  return d;
}

std::string quoted(double x) {
  std::string s = std::to_string(x);
  while (s.size() > 1 && s.back() == '0') s.pop_back();
  return s;
}

Status check_side(const char* name, int pixels, int patch) {
  if (pixels > 0 && pixels <= kMaxSide && pixels % patch == 0) return ok_status();
  return invalid_argument(std::string(name) + " is " + std::to_string(pixels) +
                          ", wanted a multiple of " + std::to_string(patch) + " from " +
                          std::to_string(patch) + " to " + std::to_string(kMaxSide));
}

void append_grid(std::vector<PositionId>& ids, float axis0, int rows, int cols) {
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < cols; ++x) {
      ids.push_back({axis0, static_cast<float>(y), static_cast<float>(x)});
    }
  }
}

}  // namespace

Result<std::unique_ptr<TextToImagePipeline>> TextToImagePipeline::load(Backend& backend,
                                                                       const std::string& folder) {
  std::unique_ptr<TextToImagePipeline> p(new TextToImagePipeline(backend));
  FO_ASSIGN_OR_RETURN(p->defaults_, load_defaults(folder + "/model_index.json"));
  FO_ASSIGN_OR_RETURN(p->scheduler_,
                      load_flow_match_euler(folder + "/scheduler/scheduler_config.json"));
  FO_ASSIGN_OR_RETURN(p->transformer_,
                      flux::FluxTransformer::load(backend, folder + "/transformer"));
  const flux::FluxConfig& c = p->transformer_->config();
  if (!p->defaults_.pixels) {
    if (!c.guidance_embeds) {  // FLUX.1-schnell
      p->defaults_.steps = 4;
      p->defaults_.guidance = p->defaults_.edit_guidance = 1;
    }
    if (c.in_channels != c.output_width() || c.in_channels % (kFluxPatch * kFluxPatch) != 0) {
      return unsupported(folder + ": the transformer takes " + std::to_string(c.in_channels) +
                         " channels and gives " + std::to_string(c.output_width()) +
                         ", wanted the same multiple of " +
                         std::to_string(kFluxPatch * kFluxPatch) + " (no Fill, Canny or Depth)");
    }
    return p;
  }
  FO_ASSIGN_OR_RETURN(p->text_encoder_, TokenEmbeddingEncoder::load(backend, folder));
  const int channels = 3 * p->defaults_.patch * p->defaults_.patch;
  if (c.in_channels != channels || c.output_width() != channels) {
    return corrupt_file(folder + ": the transformer takes " + std::to_string(c.in_channels) +
                        " channels and gives " + std::to_string(c.output_width()) +
                        ", patches of " + std::to_string(p->defaults_.patch) + " pixels have " +
                        std::to_string(channels));
  }
  const int hidden = p->text_encoder_->hidden_size();
  if (c.joint_attention_dim != hidden || c.pooled_projection_dim != hidden) {
    return corrupt_file(folder + ": the text encoder gives " + std::to_string(hidden) +
                        " features, the transformer takes " +
                        std::to_string(c.joint_attention_dim) + " and " +
                        std::to_string(c.pooled_projection_dim));
  }
  return p;
}

PatchSize TextToImagePipeline::latent_patch() const {
  const int side = defaults_.pixels ? defaults_.patch : kFluxPatch;
  return {1, side, side};
}

LatentShape TextToImagePipeline::latent_shape(const TextToImageRequest& r) const {
  const PatchSize patch = latent_patch();
  const int pixels = defaults_.patch / patch.height;  // per latent
  return {transformer_->config().in_channels / (patch.height * patch.width), 1, r.height / pixels,
          r.width / pixels};
}

bool TextToImagePipeline::is_guided(const TextToImageRequest& r) const {
  return r.guidance != 1.0 && !transformer_->config().guidance_embeds;
}

Result<EmbeddingsFile> TextToImagePipeline::embed(const TextToImageRequest& r) const {
  if (r.embeddings) return *r.embeddings;
  if (!text_encoder_) {
    return invalid_argument(
        "the text encoders of this checkpoint do not run here; give the "
        "prompt as embeddings (--embeddings FILE, which "
        "scripts/make_embeddings.py makes)");
  }
  const auto encode = [&](const std::string& prompt) -> Result<PromptEmbeddings> {
    FO_ASSIGN_OR_RETURN(EncodedPrompt e, text_encoder_->encode(prompt));
    return PromptEmbeddings{text_encoder_->max_length(),
                            text_encoder_->hidden_size(),
                            std::move(e.encoder_hidden_states),
                            std::move(e.pooled),
                            {}};
  };
  EmbeddingsFile out;
  FO_ASSIGN_OR_RETURN(out.prompt, encode(r.prompt));
  FO_ASSIGN_OR_RETURN(out.negative, encode(r.negative_prompt));
  out.metadata = {{"prompt", r.prompt}, {"negative_prompt", r.negative_prompt}};
  return out;
}

Status TextToImagePipeline::check_conditioning(const TextToImageRequest& r) const {
  if (!r.embeddings) {
    if (text_encoder_ && r.prompt.find_first_not_of(" \t\r\n") == std::string::npos) {
      return invalid_argument("the prompt is empty");
    }
    return embed(r).status();  // token limits are the tokenizer's to check
  }
  const flux::FluxConfig& c = transformer_->config();
  const auto check = [&](const PromptEmbeddings& e, const std::string& prefix) -> Status {
    if (e.width != c.joint_attention_dim ||
        e.pooled.size() != static_cast<size_t>(c.pooled_projection_dim)) {
      return invalid_argument("the embeddings have " + std::to_string(e.width) + " features in " +
                              prefix + "prompt_embeds and " + std::to_string(e.pooled.size()) +
                              " in " + prefix + "pooled_prompt_embeds, the model takes " +
                              std::to_string(c.joint_attention_dim) + " and " +
                              std::to_string(c.pooled_projection_dim));
    }
    if (std::find(e.mask.begin(), e.mask.end(), 0) != e.mask.end()) {
      return invalid_argument("the embeddings have a " + prefix +
                              "prompt_attention_mask with zeros; FLUX attends to all of its text");
    }
    return ok_status();
  };
  FO_RETURN_IF_ERROR(check(r.embeddings->prompt, ""));
  if (!is_guided(r)) return ok_status();
  if (!r.embeddings->negative) {
    return invalid_argument("guidance is " + quoted(r.guidance) +
                            ", for which the embeddings lack negative_prompt_embeds (guidance 1 "
                            "needs none)");
  }
  FO_RETURN_IF_ERROR(check(*r.embeddings->negative, "negative_"));
  if (r.embeddings->negative->tokens != r.embeddings->prompt.tokens) {
    return invalid_argument("the embeddings have " + std::to_string(r.embeddings->prompt.tokens) +
                            " tokens of the prompt and " +
                            std::to_string(r.embeddings->negative->tokens) +
                            " of the negative one, wanted the same number");
  }
  return ok_status();
}

Status TextToImagePipeline::resolve(TextToImageRequest& r) const {
  const bool edit = r.is_edit();
  if (r.steps == 0) r.steps = defaults_.steps;
  if (r.width == 0) r.width = defaults_.width;
  if (r.height == 0) r.height = defaults_.height;
  if (r.guidance < 0) r.guidance = edit ? defaults_.edit_guidance : defaults_.guidance;
  if (r.steps < 1 || r.steps > kMaxSteps) {
    return invalid_argument("steps is " + std::to_string(r.steps) + ", wanted 1 to " +
                            std::to_string(kMaxSteps));
  }
  if (!std::isfinite(r.guidance) || r.guidance > 1000) {
    return invalid_argument("guidance is " + quoted(r.guidance) + ", wanted 0 to 1000");
  }
  FO_RETURN_IF_ERROR(check_side("width", r.width, defaults_.patch));
  FO_RETURN_IF_ERROR(check_side("height", r.height, defaults_.patch));
  if (!r.reference.rgb.empty() && !defaults_.pixels) {
    return unsupported(
        "the VAE of this checkpoint does not run here; give the picture to edit as latents "
        "(--image-latents FILE)");
  }
  if (!r.reference_tokens.empty() && defaults_.pixels) {
    return invalid_argument(
        "the latents of this checkpoint are pixels; give the picture to edit itself (--image "
        "FILE)");
  }
  const auto values = static_cast<size_t>(latent_shape(r).values());
  if (!r.reference_tokens.empty() && r.reference_tokens.size() != values) {
    return invalid_argument("the reference has " + std::to_string(r.reference_tokens.size()) +
                            " values, wanted the " + std::to_string(values) + " of the run's size");
  }
  if (!r.reference.rgb.empty() &&
      (r.reference.width != r.width || r.reference.height != r.height)) {
    return invalid_argument("the reference picture is " + std::to_string(r.reference.width) + "x" +
                            std::to_string(r.reference.height) + ", wanted " +
                            std::to_string(r.width) + "x" + std::to_string(r.height));
  }
  return check_conditioning(r);
}

Result<TextToImageResult> TextToImagePipeline::generate(TextToImageRequest request,
                                                        std::unique_ptr<Strategy> strategy,
                                                        const EngineOptions& options,
                                                        const ProgressCallback& progress) {
  FO_RETURN_IF_ERROR(resolve(request));
  const bool edit = request.is_edit();
  const bool guided = is_guided(request);
  const bool dense = !strategy;
  const int rows = request.height / defaults_.patch, cols = request.width / defaults_.patch;
  const int tokens = rows * cols;
  const int64_t channels = transformer_->config().in_channels;
  const size_t values = size_t(tokens) * size_t(channels);

  const std::vector<float> sigmas = flow_match_sigmas(scheduler_, request.steps, tokens);
  flux::RunSetup setup;
  setup.sigmas.assign(sigmas.begin(), sigmas.end() - 1);
  FO_ASSIGN_OR_RETURN(EmbeddingsFile text, embed(request));
  setup.text_tokens = text.prompt.tokens;
  setup.output_tokens = tokens;
  setup.guidance = static_cast<float>(request.guidance);
  setup.streams.push_back({std::move(text.prompt.states), std::move(text.prompt.pooled)});
  if (guided) {
    setup.streams.push_back({std::move(text.negative->states), std::move(text.negative->pooled)});
  }
  setup.grid = {edit ? 2 : 1, rows, cols};
  FO_ASSIGN_OR_RETURN(setup.token_order, strategy_token_order(strategy.get(), setup.grid, tokens));
  std::vector<PositionId> ids;
  append_grid(ids, 0.f, rows, cols);
  if (edit) append_grid(ids, 1.f, rows, cols);
  ids = to_order(setup.token_order, ids, 1);
  setup.ids.assign(size_t(setup.text_tokens), PositionId{0, 0, 0});
  setup.ids.insert(setup.ids.end(), ids.begin(), ids.end());

  if (request.noise.empty()) {
    request.noise = torch_randn(request.seed, values);
    if (!defaults_.pixels) {  // drawn as latents and packed, as diffusers does
      FO_ASSIGN_OR_RETURN(request.noise,
                          latents_to_tokens(request.noise, latent_shape(request), latent_patch()));
    }
  }
  if (request.noise.size() != values) {
    return invalid_argument("noise of " + std::to_string(request.noise.size()) +
                            " values, wanted " + std::to_string(values));
  }

  Engine engine(backend_, std::move(strategy), options);
  FO_RETURN_IF_ERROR(transformer_->begin_run(engine, setup));
  const Exec& exec = transformer_->exec();

  // The model's input: the noisy tokens, then the reference's (never noised).
  std::vector<float> input = request.noise;
  if (edit) {
    const std::vector<float> tokens_of_it =
        defaults_.pixels ? image_to_patches(request.reference, defaults_.patch)
                         : std::move(request.reference_tokens);
    input.insert(input.end(), tokens_of_it.begin(), tokens_of_it.end());
  }
  input = to_order(setup.token_order, input, size_t(channels));
  const int64_t input_tokens = edit ? 2 * tokens : tokens;
  FO_ASSIGN_OR_RETURN(Tensor x, Tensor::upload(backend_, input, {1, input_tokens, channels}));
  const TensorView latents = x.view().slice(1, 0, tokens);
  Denoising run{.exec = exec, .sigmas = sigmas, .streams = guided ? 2 : 1};
  run.guidance = request.guidance;
  run.input = x;
  run.latents = latents;
  run.evaluate = [&](int step, int stream, const TensorView& seen, const TensorView& velocity) {
    return transformer_->forward(engine, step, stream, seen, velocity);
  };
  run.known = request.known_steps.get();
  const auto kept = std::make_shared<DenseSteps>();
  run.kept = kept.get();
  run.keep = dense ? request.keep_steps : 0;
  TextToImageResult out;
  FO_ASSIGN_OR_RETURN(out.seconds, denoise(backend_, engine, run, progress));
  out.latents.resize(values);
  FO_RETURN_IF_ERROR(
      backend_.download(exec, out.latents.data(), latents.data, values * sizeof(float)));
  for (float v : out.latents) {
    if (!std::isfinite(v)) return internal_error("the result holds NaN or infinity");
  }
  out.latents = from_order(setup.token_order, out.latents, size_t(channels));
  if (defaults_.pixels) {
    out.image = patches_to_image(out.latents, request.width, request.height, defaults_.patch);
  }
  out.report = engine.report();
  out.snapshots = engine.snapshots();
  if (run.keep > 0) out.kept_steps = kept;
  out.activation_bytes = transformer_->activation_bytes();
  return out;
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// A prompt (or its embeddings) in, a picture (or its latents) out: text encoder, noise, Euler
// sampler with classifier-free guidance, and the transformer under an engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "io/image.h"
#include "models/flux/transformer.h"
#include "models/text/token_embedding_encoder.h"
#include "pipelines/denoise.h"
#include "pipelines/flow_match_euler.h"
#include "pipelines/tensor_files.h"

namespace flashomni {

// What is known of a text-to-image checkpoint before a run.
struct TextToImageDefaults {
  std::string family;       // "emoji_flux" or "flux": names the presets
  std::string edit_family;  // of an edit: "emoji_flux" or "flux_kontext"
  // Latents are pixels and the text encoder runs here, as in the bundled model. Without it prompts
  // come as embeddings and latents are the result (FLUX.1: 2x2 patches of a VAE's latents, one of
  // which stands for 8x8 pixels).
  bool pixels = true;
  int width = 256;
  int height = 256;
  int patch = 8;  // pixels per side of a token
  int steps = 20;
  double guidance = 3.0;
  double edit_guidance = 2.0;
};

struct TextToImageRequest {
  std::string prompt;
  std::string negative_prompt;               // of the second guidance stream
  std::optional<EmbeddingsFile> embeddings;  // in place of both prompts
  uint64_t seed = 0;
  int steps = 0;         // 0: the model's default
  double guidance = -1;  // below 0: the model's default; 1: no second stream
  int width = 0;         // 0: the model's default
  int height = 0;
  // Editing: a clean picture of the run's size, whose tokens are appended to the sequence; pixels
  // where latents are pixels, otherwise packed latents [tokens, channels]. Empty for none.
  Image reference;
  std::vector<float> reference_tokens;
  bool is_edit() const { return !reference.rgb.empty() || !reference_tokens.empty(); }
  std::vector<float> noise;  // [tokens, channels]; empty: of torch_randn(seed)
  // Of a dense run of this request that kept them: first steps that compute the same come from
  // there.
  std::shared_ptr<const DenseSteps> known_steps;
  int keep_steps = 0;  // of a dense run
};

struct TextToImageResult {
  Image image;                 // empty where latents are not pixels
  std::vector<float> latents;  // [tokens, channels]
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;
  std::shared_ptr<const DenseSteps> kept_steps;  // where they were asked for
  double seconds = 0;                            // of the denoising loop, known steps included
  size_t activation_bytes = 0;
};

class TextToImagePipeline {
 public:
  // Loads a checkpoint folder (model_index.json, transformer/, text_encoder/, tokenizer/,
  // scheduler/). `backend` must outlive the pipeline.
  static Result<std::unique_ptr<TextToImagePipeline>> load(Backend& backend,
                                                           const std::string& folder);

  const TextToImageDefaults& defaults() const { return defaults_; }
  // REQUIRES defaults().pixels.
  const TokenEmbeddingEncoder& text_encoder() const { return *text_encoder_; }
  // Of both prompts, as embeddings for a request.
  Result<EmbeddingsFile> embed(const TextToImageRequest& request) const;
  // How the tokens of a resolved request lie in latents [channels, 1, height, width].
  LatentShape latent_shape(const TextToImageRequest& request) const;
  PatchSize latent_patch() const;
  flux::FluxTransformer& transformer() { return *transformer_; }

  // Fills in defaults and refuses what the model cannot do, before any work starts.
  Status resolve(TextToImageRequest& request) const;
  // `strategy` may be null (dense).
  Result<TextToImageResult> generate(TextToImageRequest request, std::unique_ptr<Strategy> strategy,
                                     const EngineOptions& options = {},
                                     const ProgressCallback& progress = {});

 private:
  TextToImagePipeline(Backend& backend) : backend_(backend) {}  // NOLINT

  Status check_conditioning(const TextToImageRequest& request) const;
  // Whether there is a second stream (guidance that is not embedded in the model).
  bool is_guided(const TextToImageRequest& request) const;

  Backend& backend_;
  TextToImageDefaults defaults_;
  FlowMatchEulerConfig scheduler_;
  std::unique_ptr<TokenEmbeddingEncoder> text_encoder_;
  std::unique_ptr<flux::FluxTransformer> transformer_;
};

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// A prompt in, a picture out: text encoder, noise, Euler sampler with classifier-free guidance, and
// the transformer under an engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "io/image.h"
#include "models/flux/transformer.h"
#include "models/text/token_embedding_encoder.h"
#include "pipelines/denoise.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni {

// What model_index.json says about a pixel-patch text-to-image checkpoint.
struct TextToImageDefaults {
  std::string family;  // "emoji_flux": names the presets
  int width = 256;
  int height = 256;
  int patch = 8;  // pixels per side of a token
  int steps = 20;
  double guidance = 3.0;
  double edit_guidance = 2.0;
};

struct TextToImageRequest {
  std::string prompt;
  std::string negative_prompt;  // of the second guidance stream
  uint64_t seed = 0;
  int steps = 0;         // 0: the model's default
  double guidance = -1;  // below 0: the model's default; 1: no second stream
  int width = 0;         // 0: the model's default
  int height = 0;
  Image reference;           // editing: a clean picture appended to the sequence; empty for none
  std::vector<float> noise;  // [tokens, channels]; empty: torch_randn(seed)
};

struct TextToImageResult {
  Image image;
  std::vector<float> latents;  // [tokens, channels]
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;
  double seconds = 0;  // of the denoising loop
  size_t activation_bytes = 0;
};

class TextToImagePipeline {
 public:
  // Loads a checkpoint folder (model_index.json, transformer/, text_encoder/, tokenizer/,
  // scheduler/). `backend` must outlive the pipeline.
  static Result<std::unique_ptr<TextToImagePipeline>> load(Backend& backend,
                                                           const std::string& folder);

  const TextToImageDefaults& defaults() const { return defaults_; }
  const TokenEmbeddingEncoder& text_encoder() const { return *text_encoder_; }
  flux::FluxTransformer& transformer() { return *transformer_; }

  // Fills in defaults and refuses what the model cannot do, before any work starts.
  Status resolve(TextToImageRequest& request) const;
  // `strategy` may be null (dense).
  Result<TextToImageResult> generate(TextToImageRequest request, std::unique_ptr<Strategy> strategy,
                                     const EngineOptions& options = {},
                                     const ProgressCallback& progress = {});

 private:
  TextToImagePipeline(Backend& backend) : backend_(backend) {}  // NOLINT

  Backend& backend_;
  TextToImageDefaults defaults_;
  FlowMatchEulerConfig scheduler_;
  std::unique_ptr<TokenEmbeddingEncoder> text_encoder_;
  std::unique_ptr<flux::FluxTransformer> transformer_;
};

}  // namespace flashomni

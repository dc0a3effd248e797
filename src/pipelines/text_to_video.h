// SPDX-License-Identifier: Apache-2.0
//
// The embeddings of a prompt in, the latents of a video out: noise, Euler sampler, and the
// HunyuanVideo transformer under an engine. Text encoders and VAE do not run here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "models/hunyuan_video/transformer.h"
#include "pipelines/denoise.h"
#include "pipelines/flow_match_euler.h"
#include "pipelines/tensor_files.h"

namespace flashomni {

struct TextToVideoRequest {
  EmbeddingsFile embeddings;
  uint64_t seed = 0;
  int steps = 0;              // 0: 50
  double guidance = -1;       // below 0: 6 embedded, 1 (no second stream) where it is not
  int frames = 0;             // of the video, one more than a multiple of 4; 0: 129
  int width = 0, height = 0;  // pixels; 0: 1280 and 720
  std::vector<float> noise;   // [tokens, channels * patch]; empty: torch_randn(seed)
};

struct TextToVideoResult {
  std::vector<float> latents;  // [tokens, channels * patch]
  RunReport report;
  double seconds = 0;  // of the denoising loop
  size_t activation_bytes = 0;
};

class TextToVideoPipeline {
 public:
  static constexpr int kPixelsPerLatent = 8;  // a side, of HunyuanVideo's VAE
  static constexpr int kFramesPerLatent = 4;

  // A checkpoint folder with transformer/ (and scheduler/; without it the flow shift is 7), or the
  // transformer's folder itself. `backend` must outlive the pipeline.
  static Result<std::unique_ptr<TextToVideoPipeline>> load(Backend& backend,
                                                           const std::string& folder);

  static constexpr const char* family() { return "hunyuan_video"; }  // of presets
  hunyuan_video::HunyuanVideoTransformer& transformer() { return *transformer_; }

  // Fills in defaults and refuses what the model cannot do, before any work starts.
  Status resolve(TextToVideoRequest& request) const;
  // The latents of a resolved request.
  LatentShape latent_shape(const TextToVideoRequest& request) const;
  PatchSize latent_patch() const { return transformer_->config().patch(); }
  // `strategy` may be null (dense).
  Result<TextToVideoResult> generate(TextToVideoRequest request, std::unique_ptr<Strategy> strategy,
                                     const EngineOptions& options = {},
                                     const ProgressCallback& progress = {});

 private:
  explicit TextToVideoPipeline(Backend& backend) : backend_(backend) {}
  bool is_guided(const TextToVideoRequest& request) const;
  Status check_embeddings(const TextToVideoRequest& request) const;

  Backend& backend_;
  FlowMatchEulerConfig scheduler_;
  std::unique_ptr<hunyuan_video::HunyuanVideoTransformer> transformer_;
};

}  // namespace flashomni

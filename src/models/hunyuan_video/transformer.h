// SPDX-License-Identifier: Apache-2.0
//
// The HunyuanVideo transformer: FLUX's blocks over a joint sequence with the latents first and the
// text, refined per step, at its end. Source: Tencent-Hunyuan/HunyuanVideo and diffusers'
// HunyuanVideoTransformer3DModel.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/hunyuan_video/config.h"
#include "models/hunyuan_video/token_refiner.h"
#include "models/layers/input_embedder.h"
#include "models/layers/joint_transformer.h"

namespace flashomni::hunyuan_video {

// Text conditioning of one guidance stream, host values.
struct Conditioning {
  std::vector<float> encoder_hidden_states;  // [text_tokens, text_embed_dim], valid tokens only
  std::vector<float> pooled;                 // [pooled_projection_dim]
};

// The states of the valid tokens, out of padded ones. `mask` [tokens] is 1 for valid tokens, which
// come first. Padding influences neither latents nor valid text, so that dropping it loses nothing.
// Refuses a mask without valid tokens or with gaps between them.
Result<std::vector<float>> valid_text(std::span<const float> states, std::span<const uint8_t> mask);

// Everything that is fixed for a denoising run.
struct RunSetup {
  std::vector<float> sigmas;           // one per step (without the final 0); timestep = 1000 sigma
  std::vector<Conditioning> streams;   // 1, or 2 with classifier-free guidance
  int text_tokens = 0;                 // valid ones, the same in every stream
  int frames = 1, rows = 1, cols = 1;  // of latent tokens, after patching
  std::vector<int> token_order;        // position p holds token [p] of the grid; empty: its own
  float guidance = 0;                  // embedded guidance scale; used when the config has it
};

class HunyuanVideoTransformer {
 public:
  // Loads `<folder>/config.json` and the safetensors beside it.
  static Result<std::unique_ptr<HunyuanVideoTransformer>> load(Backend& backend,
                                                               const std::string& folder);
  // Takes the weights from `loader`, whose backend it uses.
  static Result<std::unique_ptr<HunyuanVideoTransformer>> make(Backend& backend,
                                                               const HunyuanVideoConfig& config,
                                                               WeightLoader& loader);

  const HunyuanVideoConfig& config() const { return config_; }
  int64_t parameters() const { return parameters_; }
  size_t weight_bytes() const { return weight_bytes_; }
  const std::vector<std::string>& unused_tensors() const { return unused_; }

  // Computes what does not change over the steps (RoPE, all modulations) and the refined text of
  // every step, and sizes the activations; then starts the engine's run. After this, steps
  // allocate nothing.
  Status begin_run(Engine& engine, const RunSetup& setup);

  // One evaluation: hidden [1, frames * rows * cols, input_width] -> out [1, the same, output
  // width], the velocity, both f32, as latents_to_tokens() orders them and then token_order.
  // REQUIRES engine.begin_step(step) and begin_stream(stream).
  Status forward(Engine& engine, int step, int stream, const TensorView& hidden,
                 const TensorView& out);

  void set_tap(Tap tap) { joint_.set_tap(std::move(tap)); }
  const Exec& exec() const { return joint_.exec(); }
  size_t activation_bytes() const;

 private:
  explicit HunyuanVideoTransformer(Backend& backend);
  Status check_setup(const RunSetup& setup) const;

  Backend& backend_;
  HunyuanVideoConfig config_;
  InputEmbedder x_embedder_;
  TokenRefiner refiner_;
  JointTransformer joint_;
  int64_t parameters_ = 0;
  size_t weight_bytes_ = 0;
  std::vector<std::string> unused_;

  std::vector<Tensor> text_;  // per stream [steps, text_tokens, D]
};

}  // namespace flashomni::hunyuan_video

// SPDX-License-Identifier: Apache-2.0
//
// The FLUX.1 transformer: joint blocks over a sequence with the text first and the image, to which
// a reference picture may be appended, after it. Source: black-forest-labs/flux and diffusers'
// FluxTransformer2DModel.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/flux/config.h"
#include "models/layers/input_embedder.h"
#include "models/layers/joint_transformer.h"

namespace flashomni::flux {

// Text conditioning of one guidance stream, host values.
struct Conditioning {
  std::vector<float> encoder_hidden_states;  // [text_tokens, joint_attention_dim]
  std::vector<float> pooled;                 // [pooled_projection_dim]
};

// Everything that is fixed for a denoising run.
struct RunSetup {
  std::vector<float> sigmas;          // one per step (without the final 0)
  std::vector<Conditioning> streams;  // 1, or 2 with classifier-free guidance
  int text_tokens = 0;
  std::vector<PositionId> ids;   // of all tokens, text first
  int output_tokens = 0;         // leading image tokens whose velocity is wanted
  float guidance = 0;            // embedded guidance; used when the config has it
  TokenGrid grid;                // of the image tokens; optional
  std::vector<int> token_order;  // of the image tokens in this run; empty for the grid's own
};

class FluxTransformer {
 public:
  // Loads `<folder>/config.json` and the safetensors beside it.
  static Result<std::unique_ptr<FluxTransformer>> load(Backend& backend, const std::string& folder);
  // Takes the weights from `loader`, whose backend it uses. Both are kUnsupported when the backend
  // has no attention for heads of this size.
  static Result<std::unique_ptr<FluxTransformer>> make(Backend& backend, const FluxConfig& config,
                                                       WeightLoader& loader);

  const FluxConfig& config() const { return config_; }
  int64_t parameters() const { return parameters_; }
  size_t weight_bytes() const { return weight_bytes_; }
  const std::vector<std::string>& unused_tensors() const { return unused_; }

  // Computes what does not change over the steps (RoPE, text embedding, all modulations) and sizes
  // the activations; then starts the engine's run. After this, steps allocate nothing.
  Status begin_run(Engine& engine, const RunSetup& setup);

  // One evaluation: hidden [1, image_tokens, in_channels] -> out [1, output_tokens, out width], the
  // velocity, both f32. REQUIRES engine.begin_step(step) and begin_stream(stream).
  Status forward(Engine& engine, int step, int stream, const TensorView& hidden,
                 const TensorView& out);

  void set_tap(Tap tap) { joint_.set_tap(std::move(tap)); }
  const Exec& exec() const { return joint_.exec(); }
  size_t activation_bytes() const;

 private:
  explicit FluxTransformer(Backend& backend);
  Status check_setup(const RunSetup& setup) const;
  Result<Tensor> embed_text(const Conditioning& conditioning, int text_tokens);

  Backend& backend_;
  FluxConfig config_;
  InputEmbedder x_embedder_;
  Weight context_embedder_;  // [D, joint_attention_dim]
  JointTransformer joint_;
  int64_t parameters_ = 0;
  size_t weight_bytes_ = 0;
  std::vector<std::string> unused_;

  std::vector<Tensor> text_;  // per stream [1, text_tokens, D]
};

}  // namespace flashomni::flux

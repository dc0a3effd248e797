// SPDX-License-Identifier: Apache-2.0
//
// The FLUX.1 transformer (double-stream, then single-stream blocks) over the backend table, with
// the engine deciding how each attention layer runs. Source: black-forest-labs/flux and diffusers'
// FluxTransformer2DModel.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "models/flux/config.h"
#include "models/flux/weights.h"
#include "models/layers/rope.h"

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
  std::vector<PositionId> ids;  // of all tokens, text first
  int output_tokens = 0;        // leading image tokens whose velocity is wanted
  float guidance = 0;           // embedded guidance; used when the config has it
};

// Called with intermediate tensors for tests and debugging: name, image part, text part.
using Tap = std::function<void(const std::string&, const TensorView&, const TensorView&)>;

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

  void set_tap(Tap tap) { tap_ = std::move(tap); }
  const Exec& exec() const { return exec_; }
  size_t activation_bytes() const;

  ~FluxTransformer();

 private:
  struct StreamState;  // per guidance stream: embedded text and modulation rows of all steps

  explicit FluxTransformer(Backend& backend);
  Status embed_conditioning(const RunSetup& setup);
  Status allocate_activations(const RunSetup& setup);
  std::vector<LayerDesc> describe_layers() const;
  Status embedder(const EmbedderWeights& w, const TensorView& x, const TensorView& out);

  size_t required_workspace(int64_t steps) const;
  Status double_block(Engine& engine, int index, int step, int stream);
  Status single_block(Engine& engine, int index, int step, int stream);
  Status attention_inputs(Engine& engine, int layer, const TensorView& x, const Weight& q,
                          const Weight& k, const Weight& v, const TensorView& norm_q,
                          const TensorView& norm_k, int token_offset);
  void tap(const std::string& name);

  Backend& backend_;
  FluxConfig config_;
  FluxWeights weights_;
  int64_t parameters_ = 0;
  size_t weight_bytes_ = 0;
  std::vector<std::string> unused_;
  Tap tap_;

  // Of the current run.
  int text_tokens_ = 0;
  int tokens_ = 0;
  int output_tokens_ = 0;
  RopeTensors rope_;
  std::vector<StreamState> streams_;
  // All in the backend's activation dtype.
  Tensor input_;       // [1, image tokens, in_channels], where that dtype has 16 bits
  Tensor x_;           // [1, N, D], text rows first: the residual stream
  Tensor norm_;        // [1, N, D]
  Tensor q_, k_, v_;   // [1, N, H, d]
  Tensor attn_;        // [1, N, H, d]
  Tensor mlp_;         // [1, N, 4D]
  Tensor module_out_;  // [1, N, D], when the engine stores module outputs
  std::unique_ptr<Buffer> workspace_;
  Exec exec_;
};

}  // namespace flashomni::flux

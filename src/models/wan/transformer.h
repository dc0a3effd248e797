// SPDX-License-Identifier: Apache-2.0
//
// The Wan transformer (2.1 and 2.2, text to video) over the backend table: self-attention over the
// latents through the engine, cross-attention to the text, feed-forward. Source: Wan-Video/Wan2.1
// and diffusers' WanTransformer3DModel.
//
// Queries and keys are normalised over all heads of a token together, so a query tile cannot be
// left out by GEMM-Q: the norm of the others needs it. Attention, GEMM-O and degrading do follow
// the symbols.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "models/layers/input_embedder.h"
#include "models/layers/rope.h"
#include "models/wan/weights.h"

namespace flashomni::wan {

inline constexpr char kDenseGemmQ[] =
    "queries are normalised over all heads of a token together, so no head's can be left out";

// Text conditioning of one guidance stream, host values: [text_tokens, text_dim]. The model has no
// text mask; its pipeline hands in 512 rows, those after the prompt zero.
struct Conditioning {
  std::vector<float> encoder_hidden_states;
};

// Everything that is fixed for a denoising run.
struct RunSetup {
  std::vector<float> timesteps;        // one per step, 0 to 1000, as the scheduler gives them
  std::vector<Conditioning> streams;   // 1, or 2 with classifier-free guidance
  int text_tokens = 0;                 // the same in every stream
  int frames = 1, rows = 1, cols = 1;  // of latent tokens, after patching
  std::vector<int> token_order;        // position p holds token [p] of the grid; empty: its own
};

// Called with the residual stream for tests and debugging.
using Tap = std::function<void(const std::string&, const TensorView&)>;

class WanTransformer {
 public:
  // Loads `<folder>/config.json` and the safetensors beside it.
  static Result<std::unique_ptr<WanTransformer>> load(Backend& backend, const std::string& folder);
  // Takes the weights from `loader`, whose backend it uses.
  static Result<std::unique_ptr<WanTransformer>> make(Backend& backend, const WanConfig& config,
                                                      WeightLoader& loader);

  const WanConfig& config() const { return config_; }
  int64_t parameters() const { return parameters_; }
  size_t weight_bytes() const { return weight_bytes_; }
  const std::vector<std::string>& unused_tensors() const { return unused_; }

  // Computes what does not change over the steps (RoPE, the timesteps' modulations, the keys and
  // values of every cross-attention) and sizes the activations; then starts the engine's run. After
  // this, steps allocate nothing.
  Status begin_run(Engine& engine, const RunSetup& setup);

  // One evaluation: hidden [1, frames * rows * cols, input_width] -> out [1, the same, output
  // width], the velocity, both f32, as latents_to_tokens() orders them and then token_order.
  // REQUIRES engine.begin_step(step) and begin_stream(stream).
  Status forward(Engine& engine, int step, int stream, const TensorView& hidden,
                 const TensorView& out);

  void set_tap(Tap tap) { tap_ = std::move(tap); }
  const Exec& exec() const { return exec_; }
  size_t activation_bytes() const;

 private:
  // Keys and values of one block's cross-attention, [1, text_tokens, H, d].
  struct TextKeys {
    Tensor k, v;
  };

  explicit WanTransformer(Backend& backend) : backend_(backend), embedder_(backend) {}
  Status check_setup(const RunSetup& setup) const;
  Status allocate_activations();
  size_t required_workspace() const;
  Status embed_times(const RunSetup& setup);
  Result<std::vector<TextKeys>> embed_text(const std::vector<float>& states);
  std::vector<LayerDesc> describe_layers() const;

  Status project(const Weight& weight, const TensorView& x, const TensorView& out);
  Status normalize(const TensorView& x, const TensorView& weight, const RopeTable& rope);
  // Brings the modulations of this step to where everything after it reads them.
  Status begin_step(int step);
  Status block(Engine& engine, int index, int stream);
  Status self_attention(Engine& engine, int index);
  Status cross_attention(Engine& engine, int index, const TextKeys& text);
  Status feed_forward(Engine& engine, int index);
  Status reuse(Engine& engine, int index);
  // Chunk `index` of the modulation of the block that runs.
  TensorView chunk(int index) const;
  void tap(const std::string& name) const;

  Backend& backend_;
  WanConfig config_;
  InputEmbedder embedder_;
  WanWeights weights_;
  int64_t parameters_ = 0;
  size_t weight_bytes_ = 0;
  std::vector<std::string> unused_;
  Tap tap_;

  // Of the current run.
  int steps_ = 0;
  int streams_ = 0;
  int tokens_ = 0;
  int text_tokens_ = 0;
  RopeTensors rope_;
  Tensor times_;                             // [steps, 6D] f32: before the block's table is added
  Tensor out_shift_, out_scale_;             // [steps, D] f32
  Tensor time_now_;                          // [1, 6D] f32, of the step at work
  Tensor shift_now_, scale_now_;             // [1, D] f32, likewise
  std::vector<std::vector<TextKeys>> text_;  // [stream][block]
  Tensor modulation_;                        // [1, 6D] f32, of the block that runs
  // In the backend's activation dtype.
  Tensor x_;           // [1, N, D]: the residual stream
  Tensor norm_;        // [1, N, D]
  Tensor q_, k_, v_;   // [1, N, H, d]
  Tensor attn_;        // [1, N, H, d]
  Tensor mlp_;         // [1, N, ffn]
  Tensor module_out_;  // [1, N, D], when the engine stores module outputs
  std::unique_ptr<Buffer> workspace_;
  Exec exec_;
};

}  // namespace flashomni::wan

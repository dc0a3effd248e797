// SPDX-License-Identifier: Apache-2.0
//
// What FLUX.1 and HunyuanVideo share: two token streams (latents and text) that meet in joint
// attention, through double-stream blocks, then single-stream blocks, with modulations from
// timestep, guidance and pooled text, over the backend table and with the engine deciding how each
// attention layer runs. The models differ in how tokens are embedded and ordered, and in RoPE.
// Source: diffusers' FluxTransformer2DModel and HunyuanVideoTransformer3DModel.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "models/layers/joint_weights.h"
#include "models/layers/rope.h"

namespace flashomni {

struct TokenRange {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
};

// Where the two streams lie in the joint sequence; together they fill it.
struct JointLayout {
  TokenRange latents, text;
  int output_tokens = 0;         // leading latent tokens whose velocity is wanted
  TokenGrid grid;                // of the latents; optional
  std::vector<int> token_order;  // of the latents in this run; empty for the grid's own
  int tokens() const { return latents.size() + text.size(); }
};

// Everything of a denoising run that the shared part needs.
struct JointRun {
  JointLayout layout;
  std::vector<PositionId> ids;  // of all tokens of the joint sequence
  std::vector<int> rope_axes;
  double rope_theta = 10000.0;
  std::vector<float> times;                    // per step, as the sinusoid takes them
  float guidance = 0;                          // likewise; used when the config embeds it
  std::vector<std::span<const float>> pooled;  // per guidance stream, [pooled_width]
  size_t workspace_bytes = 0;                  // what the model's own operations need
};

// Called with intermediate tensors for tests and debugging: name, latents, text.
using Tap = std::function<void(const std::string&, const TensorView&, const TensorView&)>;

class JointTransformer {
 public:
  explicit JointTransformer(Backend& backend);
  ~JointTransformer();

  // kUnsupported when the backend has no attention for heads of this size.
  Status load(const JointConfig& config, WeightLoader& loader);
  const JointConfig& config() const { return config_; }

  // Allocates activations and workspace, builds the RoPE table and the modulations of all steps.
  // What the pooled text, times and ids must look like is the model's to check.
  Status begin_run(const JointRun& run);
  // Describes the layers to the engine and starts its run. REQUIRES begin_run.
  Status begin_engine(Engine& engine);

  // The rows of the residual stream [1, M, D] that a model writes its embedded tokens to.
  TensorView latents() const { return rows(x_, layout_.latents); }
  TensorView text() const { return rows(x_, layout_.text); }

  // Brings the modulations of this step to where the blocks read them. To be called first: what
  // comes after it takes the same operands in every step, so that a graph of one step is good for
  // others.
  Status begin_step(int step, int stream);
  // All blocks, on the residual stream.
  Status blocks(Engine& engine);
  // out [1, output_tokens, out_width] f32: modulated norm and output projection of the latents.
  Status output(const TensorView& out);

  // Names the state of the residual stream for the tap, if there is one.
  void tap(const std::string& name) const;
  void set_tap(Tap tap) { tap_ = std::move(tap); }
  const Exec& exec() const { return exec_; }
  size_t activation_bytes() const;

 private:
  struct Modulation;  // of one guidance stream, all steps
  struct ModulationColumns;

  static TensorView rows(const Tensor& t, const TokenRange& r) {
    return t.view().slice(1, r.begin, r.end);
  }
  Status allocate_activations();
  size_t required_workspace(int64_t steps) const;
  Status modulate(const JointRun& run);
  Result<Tensor> embed_times(const JointRun& run) const;
  std::vector<LayerDesc> describe_layers() const;

  Status probe_first_input(Engine& engine);
  Status double_block(Engine& engine, int index);
  Status single_block(Engine& engine, int index);
  // Chunk `index` (of width D) of this step's modulations that begin at column `begin`, [1, D].
  TensorView chunk(int64_t begin, int64_t index) const {
    const int64_t first = begin + index * config_.width();
    return modulation_.view().slice(1, first, first + config_.width());
  }
  Status attention_inputs(Engine& engine, int layer, const TensorView& x, const Weight& q,
                          const Weight& k, const Weight& v, const TensorView& norm_q,
                          const TensorView& norm_k, int token_offset);

  Backend& backend_;
  JointConfig config_;
  JointWeights weights_;
  Tap tap_;

  // Of the current run.
  JointLayout layout_;
  int steps_ = 0;
  RopeTensors rope_;
  std::vector<Modulation> modulations_;         // per guidance stream
  std::unique_ptr<ModulationColumns> columns_;  // of them
  Tensor modulation_;                           // [1, columns] f32: of the step and stream at work
  // All in the backend's activation dtype.
  Tensor x_;           // [1, N, D]: the residual stream
  Tensor norm_;        // [1, N, D]
  Tensor q_, k_, v_;   // [1, N, H, d]
  Tensor attn_;        // [1, N, H, d]
  Tensor mlp_;         // [1, N, mlp]
  Tensor module_out_;  // [1, N, D], when the engine stores module outputs
  std::unique_ptr<Buffer> workspace_;
  Exec exec_;
};

}  // namespace flashomni

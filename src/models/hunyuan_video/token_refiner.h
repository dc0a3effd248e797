// SPDX-License-Identifier: Apache-2.0
//
// HunyuanVideo's text embedder: language-model states, projected and refined by small transformer
// blocks whose gates depend on the timestep. Source: diffusers' HunyuanVideoTokenRefiner.
#pragma once

#include <span>
#include <vector>

#include "models/hunyuan_video/config.h"
#include "models/layers/affine_norm.h"
#include "models/layers/embedder.h"
#include "models/layers/workspace_size.h"

namespace flashomni::hunyuan_video {

class TokenRefiner {
 public:
  explicit TokenRefiner(Backend& backend) : backend_(backend) {}

  Status load(const HunyuanVideoConfig& config, WeightLoader& loader);

  // The refined text of every step, [steps, text_tokens, D] in the activation dtype, from the
  // states [text_tokens, text_embed_dim] of the valid tokens. Text in the padding is never seen by
  // valid tokens, so that leaving it out is exact and needs no mask. Allocates.
  Result<Tensor> refine(const Exec& exec, std::span<const float> states, int64_t text_tokens,
                        std::span<const float> times) const;

  void add_workspace(WorkspaceSize& size, int64_t text_tokens, int64_t steps) const;

 private:
  struct Block {
    AffineNorm norm_attn, norm_ff;
    Weight q, k, v, out;   // [D, D]
    Weight ff_in, ff_out;  // [4D, D], [D, 4D]
    Weight gates;          // [2D, D]: attention, feed-forward
  };
  // Scratch of one step.
  struct Activations {
    Tensor norm;           // [1, M, D]
    Tensor q, k, v, attn;  // [1, M, H, d]
    Tensor mlp;            // [1, M, 4D]
  };

  Result<Activations> allocate(int64_t text_tokens) const;
  // silu(MLP(timestep) + MLP(mean state)), [steps, D].
  Result<Tensor> condition(const Exec& exec, std::span<const float> states, int64_t text_tokens,
                           std::span<const float> times) const;
  Status run_block(const Exec& exec, const Block& block, const TensorView& gates,
                   const TensorView& x, const Activations& a) const;

  Backend& backend_;
  HunyuanVideoConfig config_;
  EmbedderWeights timestep_, pooled_;
  Weight proj_in_;  // [D, text_embed_dim]
  std::vector<Block> blocks_;
};

}  // namespace flashomni::hunyuan_video

// SPDX-License-Identifier: Apache-2.0
//
// The linear layer that turns latents into tokens. Latents are f32 (the sampler's precision), so
// where activations have 16 bits they are rounded first and the product takes its fastest path.
#pragma once

#include "models/layers/workspace_size.h"

namespace flashomni {

class InputEmbedder {
 public:
  explicit InputEmbedder(Backend& backend) : backend_(backend) {}
  void set_weight(Weight weight) { weight_ = std::move(weight); }

  // Allocates for runs over that many tokens.
  Status begin_run(int64_t tokens);
  // out [1, tokens, D] from latents [1, tokens, channels] f32.
  Status run(const Exec& exec, const TensorView& latents, const TensorView& out) const;

  void add_workspace(WorkspaceSize& size, int64_t tokens) const;
  size_t bytes() const { return rounded_.bytes(); }

 private:
  Backend& backend_;
  Weight weight_;
  Tensor rounded_;  // [1, tokens, channels], where activations have 16 bits
};

}  // namespace flashomni

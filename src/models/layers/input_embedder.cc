// SPDX-License-Identifier: Apache-2.0
#include "models/layers/input_embedder.h"

namespace flashomni {

Status InputEmbedder::begin_run(int64_t tokens) {
  rounded_ = {};
  const DType dtype = backend_.activation_dtype();
  if (dtype == DType::kF32) return ok_status();
  FO_ASSIGN_OR_RETURN(rounded_,
                      Tensor::allocate(backend_, dtype, {1, tokens, weight_->in_features()}));
  return ok_status();
}

Status InputEmbedder::run(const Exec& exec, const TensorView& latents,
                          const TensorView& out) const {
  LinearParams p{.x = latents, .weight = weight_.get()};
  if (rounded_) {
    FO_RETURN_IF_ERROR(backend_.activation(
        exec, {.x = latents, .activation = Activation::kNone, .out = rounded_.view()}));
    p.x = rounded_;
  }
  p.out = out;
  return backend_.linear(exec, p);
}

void InputEmbedder::add_workspace(WorkspaceSize& size, int64_t tokens) const {
  size.linear(weight_, backend_.activation_dtype(), tokens);
}

}  // namespace flashomni

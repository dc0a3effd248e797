// SPDX-License-Identifier: Apache-2.0
#include "models/layers/embedder.h"

namespace flashomni {

Result<EmbedderWeights> load_embedder(WeightLoader& loader, const std::string& prefix, int64_t in,
                                      int64_t out) {
  EmbedderWeights w;
  FO_ASSIGN_OR_RETURN(w.linear_1, loader.linear(prefix + ".linear_1", out, in));
  FO_ASSIGN_OR_RETURN(w.linear_2, loader.linear(prefix + ".linear_2", out, out));
  return w;
}

Status run_embedder(Backend& backend, const Exec& exec, const EmbedderWeights& weights,
                    const TensorView& x, const TensorView& out, Activation activation) {
  FO_ASSIGN_OR_RETURN(
      Tensor hidden,
      Tensor::allocate(backend, DType::kF32, {x.size(0), weights.linear_1->out_features()}));
  LinearParams first{.x = x, .weight = weights.linear_1.get(), .activation = activation};
  first.out = hidden;
  FO_RETURN_IF_ERROR(backend.linear(exec, first));
  LinearParams second{.x = hidden, .weight = weights.linear_2.get()};
  second.out = out;
  FO_RETURN_IF_ERROR(backend.linear(exec, second));
  return backend.synchronize(exec);  // the hidden rows go now
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "models/layers/affine_norm.h"

namespace flashomni {

Result<AffineNorm> load_affine_norm(Backend& backend, WeightLoader& loader,
                                    const std::string& prefix, int64_t width) {
  FO_ASSIGN_OR_RETURN(std::vector<float> weight, loader.host(prefix + ".weight", {width}));
  FO_ASSIGN_OR_RETURN(const std::vector<float> bias, loader.host(prefix + ".bias", {width}));
  for (float& w : weight) w -= 1.f;
  AffineNorm norm;
  FO_ASSIGN_OR_RETURN(norm.scale, Tensor::upload(backend, weight, {1, width}));
  FO_ASSIGN_OR_RETURN(norm.shift, Tensor::upload(backend, bias, {1, width}));
  return norm;
}

}  // namespace flashomni

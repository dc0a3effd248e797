// SPDX-License-Identifier: Apache-2.0
//
// A LayerNorm with weight and bias, as the constant modulation that it is: weight = 1 + scale.
#pragma once

#include <string>

#include "models/weights.h"

namespace flashomni {

struct AffineNorm {
  Tensor scale;  // [1, D]: weight - 1
  Tensor shift;  // [1, D]: bias
};

// `<prefix>.weight` and `<prefix>.bias`.
Result<AffineNorm> load_affine_norm(Backend& backend, WeightLoader& loader,
                                    const std::string& prefix, int64_t width);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// The two-layer perceptron that embeds timesteps, guidance and pooled text in every DiT family.
#pragma once

#include <string>

#include "models/weights.h"

namespace flashomni {

struct EmbedderWeights {
  Weight linear_1;  // [out, in]
  Weight linear_2;  // [out, out]
};

// `<prefix>.linear_1` and `<prefix>.linear_2`.
Result<EmbedderWeights> load_embedder(WeightLoader& loader, const std::string& prefix, int64_t in,
                                      int64_t out);

// out [M, out] = linear_2(activation(linear_1(x [M, in]))), f32. Allocates the hidden rows.
Status run_embedder(Backend& backend, const Exec& exec, const EmbedderWeights& weights,
                    const TensorView& x, const TensorView& out,
                    Activation activation = Activation::kSilu);

}  // namespace flashomni

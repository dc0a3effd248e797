// SPDX-License-Identifier: Apache-2.0
//
// Latents as tokens and back. A token is one patch; tokens run frame by frame, row by row; features
// within a token in the order (channel, frame, row, column), which a convolution with stride =
// kernel flattens to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

struct LatentShape {
  int channels = 16, frames = 1, height = 0, width = 0;
  int64_t values() const { return int64_t{channels} * frames * height * width; }
};

struct PatchSize {
  int frames = 1, height = 2, width = 2;
  bool operator==(const PatchSize&) const = default;
};

// [C, F, h, w] -> [tokens, C * patch]. Fails unless the patch divides the shape.
Result<std::vector<float>> latents_to_tokens(std::span<const float> latents,
                                             const LatentShape& shape, const PatchSize& patch);
// The inverse.
Result<std::vector<float>> tokens_to_latents(std::span<const float> tokens,
                                             const LatentShape& shape, const PatchSize& patch);

}  // namespace flashomni

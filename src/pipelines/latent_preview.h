// SPDX-License-Identifier: Apache-2.0
//
// A look at latents without a decoder.
#pragma once

#include <span>
#include <vector>

#include "flashomni/status.h"
#include "io/image.h"
#include "models/layers/patches.h"

namespace flashomni {

// What every output of a preview is called.
inline constexpr char kLinearPreview[] = "linear preview of latents, not a decoded video";

// One picture a latent frame from latents [C, F, h, w], a fixed linear map: every channel is
// brought to mean 0 and deviation 1 over the whole clip, channel c counts towards red, green or
// blue by c mod 3, and a colour is 128 + 48 * (sum of its channels) / sqrt(their number), clamped;
// one latent becomes `scale` x `scale` pixels. Shapes and motion can be seen, colours mean nothing.
// kInvalidArgument when the values do not match the shape.
Result<std::vector<Image>> linear_preview(std::span<const float> latents, const LatentShape& shape,
                                          int scale);

}  // namespace flashomni

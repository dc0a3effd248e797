// SPDX-License-Identifier: Apache-2.0
//
// Pictures as tokens of square pixel patches (the bundled model's latents; FLUX packs its VAE
// latents in the same order with 2x2 patches).
#pragma once

#include <vector>

#include "io/image.h"

namespace flashomni {

// [rows * cols, 3 * patch * patch], element channel*patch^2 + y*patch + x, values in [-1, 1].
// REQUIRES width and height to be multiples of `patch`.
std::vector<float> image_to_patches(const Image& image, int patch);
// The inverse, clamped to [-1, 1] and rounded to 8 bits. REQUIRES matching sizes.
Image patches_to_image(const std::vector<float>& patches, int width, int height, int patch);

}  // namespace flashomni

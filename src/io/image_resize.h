// SPDX-License-Identifier: Apache-2.0
//
// Pictures of one size from pictures of another.
#pragma once

#include "io/image.h"

namespace flashomni {

// `image` scaled to width x height: bilinear, with a filter that widens as the picture shrinks so
// that every source pixel counts (Pillow's BILINEAR), on the sRGB values. The same size gives the
// same picture. REQUIRES a picture that is not empty and sides of at least 1.
Image resize_image(const Image& image, int width, int height);

// `image` scaled by one factor to the largest size that fits into width x height, in the middle, on
// white. The same requirements.
Image fit_image(const Image& image, int width, int height);

}  // namespace flashomni

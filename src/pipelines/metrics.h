// SPDX-License-Identifier: Apache-2.0
//
// Picture comparison: how far a sparse picture is from the dense one of the same seed.
#pragma once

#include "flashomni/status.h"
#include "io/image.h"

namespace flashomni {

// Peak signal-to-noise ratio over all 8-bit channels, dB; infinity for equal pictures.
Result<double> psnr_db(const Image& a, const Image& b);

// Structural similarity (Wang et al. 2004) of the luma planes: 11x11 Gaussian window of sigma 1.5,
// K1 = 0.01, K2 = 0.03, mean over all window positions that fit. Pictures narrower than the window
// are refused.
Result<double> ssim(const Image& a, const Image& b);

// |a - b| * gain, clamped, per channel.
Result<Image> amplified_difference(const Image& a, const Image& b, int gain);

}  // namespace flashomni

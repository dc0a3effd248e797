// SPDX-License-Identifier: Apache-2.0
//
// What the files of the image module share: one decoder a format and the limits on sizes.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "flashomni/status.h"
#include "io/image.h"

namespace flashomni {

// Decoders for bytes that begin with the format's signature.
Result<Image> decode_png(std::span<const uint8_t> bytes, const std::string& source);
Result<Image> decode_jpeg(std::span<const uint8_t> bytes, const std::string& source);

// "20000x1, wanted 1 to 16384 pixels a side and ..." when the size is outside the limits, else "".
std::string image_size_problem(int64_t width, int64_t height);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Pictures in and out: 8-bit RGB, PNG written, PNG and JPEG read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

// Row-major, top row first, three bytes (R, G, B; sRGB) a pixel, no padding between rows.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // width * height * 3
};

// Limits of what is read or written.
inline constexpr int kMaxImageSide = 16384;
inline constexpr int64_t kMaxImagePixels = int64_t{64} << 20;
inline constexpr size_t kMaxImageFileBytes = size_t{256} << 20;

// The bytes of a PNG. kInvalidArgument for an empty or too large image or one whose rgb has another
// size than width * height * 3.
Result<std::vector<uint8_t>> encode_png(const Image& image);
// Writes a PNG, whole or not at all.
Status save_png(const std::string& path, const Image& image);

// Reads a PNG or JPEG. Transparent parts are put on white, 16-bit channels reduced to 8, grey and
// palette images become RGB; orientation tags are not applied. kCorruptFile for anything else or
// damaged, kUnsupported over the limits.
Result<Image> load_image(const std::string& path);
// The same from memory; `source` names the bytes in messages.
Result<Image> decode_image(std::span<const uint8_t> bytes, const std::string& source);

}  // namespace flashomni

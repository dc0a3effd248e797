// SPDX-License-Identifier: Apache-2.0
#include "io/image.h"

#include <string_view>

#include "io/image_formats.h"
#include "io/input_file.h"
#include "io/messages.h"

namespace flashomni {

std::string image_size_problem(int64_t width, int64_t height) {
  if (width >= 1 && height >= 1 && width <= kMaxImageSide && height <= kMaxImageSide &&
      width * height <= kMaxImagePixels) {
    return "";
  }
  return "the image is " + std::to_string(width) + "x" + std::to_string(height) + ", wanted 1 to " +
         std::to_string(kMaxImageSide) + " pixels a side and at most " +
         std::to_string(kMaxImagePixels) + " in all";
}

Result<Image> decode_image(std::span<const uint8_t> bytes, const std::string& source) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (bytes.size() > kMaxImageFileBytes) {
    return unsupported(source + " has " + std::to_string(bytes.size()) +
                       " bytes, an image file may have " + std::to_string(kMaxImageFileBytes));
  }
  if (start.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, source);
  if (start.starts_with("\xff\xd8\xff")) return decode_jpeg(bytes, source);
  return corrupt_file(source + " is not a PNG or JPEG image: it begins with " +
                      quote(start.substr(0, 8)));
}

Result<Image> load_image(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(path, kMaxImageFileBytes));
  return decode_image(bytes, path);
}

}  // namespace flashomni

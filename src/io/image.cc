// SPDX-License-Identifier: Apache-2.0
#include "io/image.h"

#include <png.h>

#include <memory>

#include "io/atomic_file.h"
#include "io/mapped_file.h"

#define STBI_NO_STDIO
#include <stb_image.h>

namespace flashomni {
namespace {

std::string size_text(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

bool within_limits(int64_t width, int64_t height) {
  return width >= 1 && height >= 1 && width <= kMaxImageSide && height <= kMaxImageSide &&
         width * height <= kMaxImagePixels;
}

std::string limits_text() {
  return "wanted 1 to " + std::to_string(kMaxImageSide) + " pixels a side and at most " +
         std::to_string(kMaxImagePixels) + " in all";
}

// a * alpha + white * (1 - alpha), rounded to nearest.
uint8_t over_white(int value, int alpha) {
  return static_cast<uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

}  // namespace

Status save_png(const std::string& path, const Image& image) {
  if (!within_limits(image.width, image.height)) {
    return invalid_argument("cannot write " + path + ": the image is " +
                            size_text(image.width, image.height) + ", " + limits_text());
  }
  const size_t want = size_t(image.width) * size_t(image.height) * 3;
  if (image.rgb.size() != want) {
    return invalid_argument("cannot write " + path + ": a " + size_text(image.width, image.height) +
                            " image has " + std::to_string(image.rgb.size()) + " bytes, wanted " +
                            std::to_string(want));
  }
  // libpng's simplified interface keeps its longjmp to itself and reports through `png`.
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<uint8_t> file(bytes);
  if (png_image_write_to_memory(&png, file.data(), &bytes, 0, image.rgb.data(), 0, nullptr) == 0) {
    return internal_error("cannot write " + path + ": libpng: " + png.message);
  }
  return write_file(path, std::span<const uint8_t>(file.data(), bytes));
}

Result<Image> decode_image(std::span<const uint8_t> bytes, const std::string& source) {
  if (bytes.empty()) return corrupt_file(source + " is empty, wanted a PNG or JPEG image");
  if (bytes.size() > kMaxImageFileBytes) {
    return unsupported(source + " has " + std::to_string(bytes.size()) +
                       " bytes, an image may have " + std::to_string(kMaxImageFileBytes));
  }
  const int length = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  if (stbi_info_from_memory(bytes.data(), length, &width, &height, &channels) == 0) {
    return corrupt_file(source + " is not a PNG or JPEG image: " + stbi_failure_reason());
  }
  if (!within_limits(width, height)) {
    return unsupported(source + ": the image is " + size_text(width, height) + ", " +
                       limits_text());
  }
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> rgba(
      stbi_load_from_memory(bytes.data(), length, &width, &height, &channels, 4), &stbi_image_free);
  if (rgba == nullptr) {
    return corrupt_file(source + " is damaged or of an unsupported kind: " + stbi_failure_reason());
  }
  Image image{.width = width, .height = height, .rgb = {}};
  image.rgb.resize(size_t(width) * size_t(height) * 3);
  const stbi_uc* pixel = rgba.get();
  for (size_t i = 0; i < image.rgb.size(); i += 3, pixel += 4) {
    for (size_t c = 0; c < 3; ++c) image.rgb[i + c] = over_white(pixel[c], pixel[3]);
  }
  return image;
}

Result<Image> load_image(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::open(path));
  FO_RETURN_IF_ERROR(file.check_not_lfs_pointer());
  return decode_image(file.bytes(), path);
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// PNG through libpng's simplified interface, which keeps its longjmp to itself.
#include <png.h>

#include "io/atomic_file.h"
#include "io/image_formats.h"

namespace flashomni {
namespace {

// A png_image that frees what libpng hangs on it.
struct PngImage : png_image {
  PngImage() : png_image{} { version = PNG_IMAGE_VERSION; }
  ~PngImage() { png_image_free(this); }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;
};

// value * alpha + white * (1 - alpha), rounded to nearest.
uint8_t over_white(int value, int alpha) {
  return static_cast<uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

}  // namespace

Result<std::vector<uint8_t>> encode_png(const Image& image) {
  const std::string problem = image_size_problem(image.width, image.height);
  if (!problem.empty()) return invalid_argument(problem);
  const size_t want = size_t(image.width) * size_t(image.height) * 3;
  if (image.rgb.size() != want) {
    return invalid_argument("the image has " + std::to_string(image.rgb.size()) +
                            " bytes, wanted " + std::to_string(want));
  }
  PngImage png;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<uint8_t> file(bytes);
  if (png_image_write_to_memory(&png, file.data(), &bytes, 0, image.rgb.data(), 0, nullptr) == 0) {
    return internal_error(std::string("libpng: ") + png.message);
  }
  file.resize(bytes);
  return file;
}

Status save_png(const std::string& path, const Image& image) {
  const Result<std::vector<uint8_t>> file = encode_png(image);
  if (!file.ok()) {
    return Status(file.status().code(), "cannot write " + path + ": " + file.status().message());
  }
  return write_file(path, std::span<const uint8_t>(*file));
}

Result<Image> decode_png(std::span<const uint8_t> bytes, const std::string& source) {
  PngImage png;
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) {
    return corrupt_file(source + " is a damaged PNG: " + png.message);
  }
  const std::string problem = image_size_problem(png.width, png.height);
  if (!problem.empty()) return unsupported(source + ": " + problem);

  png.format = PNG_FORMAT_RGBA;
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // else 16-bit files without a gamma count as linear
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(png));
  Image image{.width = int(png.width), .height = int(png.height), .rgb = {}};
  if (png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) == 0) {
    return corrupt_file(source + " is a damaged PNG: " + png.message);
  }
  image.rgb.resize(rgba.size() / 4 * 3);
  const uint8_t* pixel = rgba.data();
  for (size_t i = 0; i < image.rgb.size(); i += 3, pixel += 4) {
    for (size_t c = 0; c < 3; ++c) image.rgb[i + c] = over_white(pixel[c], pixel[3]);
  }
  return image;
}

}  // namespace flashomni

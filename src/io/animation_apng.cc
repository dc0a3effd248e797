// SPDX-License-Identifier: Apache-2.0
//
// APNG (W3C PNG, third edition): libpng writes every frame as a PNG of its own, whose pixel data is
// put into the chunks of one animation. A PNG that is not animated is its first frame.
#include <png.h>
#include <zlib.h>

#include "io/animation.h"
#include "io/animation_formats.h"
#include "io/atomic_file.h"

namespace flashomni {
namespace {

void put_u16(std::vector<uint8_t>& out, uint32_t v) {
  out.insert(out.end(), {uint8_t(v >> 8), uint8_t(v)});
}
void put_u32(std::vector<uint8_t>& out, uint32_t v) {
  put_u16(out, v >> 16);
  put_u16(out, v & 0xffff);
}
uint32_t get_u32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

void put_chunk(std::vector<uint8_t>& out, const char* type, std::span<const uint8_t> data) {
  put_u32(out, static_cast<uint32_t>(data.size()));
  const size_t start = out.size();
  out.insert(out.end(), type, type + 4);
  out.insert(out.end(), data.begin(), data.end());
  put_u32(out, static_cast<uint32_t>(
                   ::crc32(0, out.data() + start, static_cast<uInt>(out.size() - start))));
}

Result<std::vector<uint8_t>> encode_png(const Image& image, const std::string& path) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<uint8_t> file(bytes);
  const int written =
      png_image_write_to_memory(&png, file.data(), &bytes, 0, image.rgb.data(), 0, nullptr);
  png_image_free(&png);
  if (written == 0) return internal_error("cannot write " + path + ": libpng: " + png.message);
  file.resize(bytes);
  return file;
}

}  // namespace

Status save_apng(const std::string& path, std::span<const Image> frames, int fps) {
  FO_RETURN_IF_ERROR(check_frames(path, frames, fps));
  std::vector<uint8_t> out;
  uint32_t sequence = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> png, encode_png(frames[i], path));
    bool control_written = false;
    // libpng's own chunks: signature, then length, type, data, check sum.
    for (size_t at = 8; at + 12 <= png.size();) {
      const uint32_t length = get_u32(png.data() + at);
      const std::string type(reinterpret_cast<const char*>(png.data()) + at + 4, 4);
      const std::span<const uint8_t> data(png.data() + at + 8, length);
      at += 12 + size_t{length};
      if (type == "IDAT") {
        if (!control_written) {
          control_written = true;
          std::vector<uint8_t> control;
          put_u32(control, sequence++);
          put_u32(control, static_cast<uint32_t>(frames[i].width));
          put_u32(control, static_cast<uint32_t>(frames[i].height));
          put_u32(control, 0);  // x
          put_u32(control, 0);  // y
          put_u16(control, 1);  // seconds: 1 / fps
          put_u16(control, static_cast<uint32_t>(fps));
          control.insert(control.end(), {0, 0});  // keep the frame, replace what was there
          put_chunk(out, "fcTL", control);
        }
        if (i == 0) {
          put_chunk(out, "IDAT", data);
          continue;
        }
        std::vector<uint8_t> numbered;
        put_u32(numbered, sequence++);
        numbered.insert(numbered.end(), data.begin(), data.end());
        put_chunk(out, "fdAT", numbered);
      } else if (i == 0 && type != "IEND") {
        if (type == "IHDR") out.assign(png.begin(), png.begin() + 8);
        put_chunk(out, type.c_str(), data);
        if (type == "IHDR") {
          std::vector<uint8_t> animation;
          put_u32(animation, static_cast<uint32_t>(frames.size()));
          put_u32(animation, 0);  // for ever
          put_chunk(out, "acTL", animation);
        }
      }
    }
  }
  put_chunk(out, "IEND", {});
  return write_file(path, out);
}

}  // namespace flashomni

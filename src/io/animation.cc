// SPDX-License-Identifier: Apache-2.0
#include "io/animation.h"

#include <filesystem>

#include "io/animation_formats.h"
#include "io/image_formats.h"

namespace flashomni {
namespace {

enum class Format { kApng, kWebp, kMp4, kUnknown };

Format format_of(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending == ".png" || ending == ".apng") return Format::kApng;
  if (ending == ".webp") return Format::kWebp;
  return ending == ".mp4" ? Format::kMp4 : Format::kUnknown;
}

}  // namespace

Status check_frames(const std::string& path, std::span<const Image> frames, int fps) {
  const std::string cannot = "cannot write " + path + ": ";
  if (frames.empty()) return invalid_argument(cannot + "there are no frames");
  if (fps < 1 || fps > kMaxFps) {
    return invalid_argument(cannot + "the rate is " + std::to_string(fps) + ", wanted 1.." +
                            std::to_string(kMaxFps) + " frames a second");
  }
  const Image& first = frames[0];
  const std::string problem = image_size_problem(first.width, first.height);
  if (!problem.empty()) return invalid_argument(cannot + problem);
  for (size_t i = 0; i < frames.size(); ++i) {
    const Image& f = frames[i];
    if (f.width == first.width && f.height == first.height &&
        f.rgb.size() == size_t(f.width) * size_t(f.height) * 3) {
      continue;
    }
    return invalid_argument(cannot + "frame " + std::to_string(i) + " is " +
                            std::to_string(f.width) + "x" + std::to_string(f.height) + " with " +
                            std::to_string(f.rgb.size()) + " bytes, the first is " +
                            std::to_string(first.width) + "x" + std::to_string(first.height));
  }
  return ok_status();
}

Status save_animation(const std::string& path, std::span<const Image> frames, int fps) {
  switch (format_of(path)) {
    case Format::kApng:
      return save_apng(path, frames, fps);
    case Format::kWebp:
      return save_webp(path, frames, fps);
    case Format::kMp4:
      return save_mp4(path, frames, fps);
    default:
      return check_animation_path(path);
  }
}

Status check_animation_path(const std::string& path) {
  switch (format_of(path)) {
    case Format::kApng:
      return ok_status();
    case Format::kWebp:
      return check_webp(path);
    case Format::kMp4:
      return check_mp4(path);
    default:
      return invalid_argument(path +
                              " is no name of a video, wanted one that ends in .png or "
                              ".apng (APNG), .webp or .mp4");
  }
}

}  // namespace flashomni

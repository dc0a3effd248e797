// SPDX-License-Identifier: Apache-2.0
//
// Frames to files that move: APNG, animated WebP, and MP4 where ffmpeg is installed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "flashomni/status.h"
#include "io/image.h"

namespace flashomni {

inline constexpr int kMaxFps = 1000;

// Writes `frames` (one size, at least one) at `fps` frames a second, for ever repeated, whole or
// not at all. All refuse an empty list, frames of different or too large sizes and a rate outside
// of 1..kMaxFps with kInvalidArgument.

// Lossless. Readers that do not know APNG show the first frame.
Status save_apng(const std::string& path, std::span<const Image> frames, int fps);
// Lossy, `quality` 0..100. kUnsupported in builds without libwebp.
Status save_webp(const std::string& path, std::span<const Image> frames, int fps, int quality = 90);
// H.264 through an `ffmpeg` program of the PATH; sides are padded to even numbers by repeating the
// last row or column. kUnsupported, and nothing written, where there is no such program; kIoError
// with its last words where it fails.
Status save_mp4(const std::string& path, std::span<const Image> frames, int fps);

// By the ending of the name: .png and .apng, .webp, .mp4. kInvalidArgument for another one.
Status save_animation(const std::string& path, std::span<const Image> frames, int fps);
// What save_animation would refuse whatever the frames are: the ending, a missing library or
// program.
Status check_animation_path(const std::string& path);

}  // namespace flashomni

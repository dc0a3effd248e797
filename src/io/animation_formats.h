// SPDX-License-Identifier: Apache-2.0
//
// What the writers of animations share.
#pragma once

#include <span>
#include <string>

#include "flashomni/status.h"
#include "io/image.h"

namespace flashomni {

// The refusals that all formats have in common.
Status check_frames(const std::string& path, std::span<const Image> frames, int fps);
// Whether the format can be written here at all.
Status check_webp(const std::string& path);
Status check_mp4(const std::string& path);

}  // namespace flashomni

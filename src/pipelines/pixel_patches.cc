// SPDX-License-Identifier: Apache-2.0
#include "pipelines/pixel_patches.h"

#include <algorithm>
#include <cmath>

namespace flashomni {
namespace {

// Calls f(index into patches, index into rgb) for every value.
template <class F>
void for_each_value(int width, int height, int patch, const F& f) {
  const int cols = width / patch;
  const size_t area = size_t(patch) * size_t(patch);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const size_t token = size_t(y / patch) * size_t(cols) + size_t(x / patch);
      const size_t inside = size_t(y % patch) * size_t(patch) + size_t(x % patch);
      for (size_t c = 0; c < 3; ++c) {
        f((token * 3 + c) * area + inside, (size_t(y) * size_t(width) + size_t(x)) * 3 + c);
      }
    }
  }
}

}  // namespace

std::vector<float> image_to_patches(const Image& image, int patch) {
  std::vector<float> out(image.rgb.size());
  for_each_value(image.width, image.height, patch, [&](size_t to, size_t from) {
    out[to] = static_cast<float>(image.rgb[from]) / 127.5f - 1.f;
  });
  return out;
}

Image patches_to_image(const std::vector<float>& patches, int width, int height, int patch) {
  Image out{width, height, std::vector<uint8_t>(patches.size())};
  for_each_value(width, height, patch, [&](size_t from, size_t to) {
    const float v = std::clamp(patches[from], -1.f, 1.f);
    // Half to even, like the reference's tensor rounding.
    out.rgb[to] = static_cast<uint8_t>(std::nearbyint(v * 127.5f + 127.5f));
  });
  return out;
}

}  // namespace flashomni

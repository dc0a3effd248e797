// SPDX-License-Identifier: Apache-2.0
#include "pipelines/latent_preview.h"

#include <algorithm>
#include <cmath>

namespace flashomni {

Result<std::vector<Image>> linear_preview(std::span<const float> latents, const LatentShape& shape,
                                          int scale) {
  if (latents.size() != static_cast<size_t>(shape.values()) || scale < 1) {
    return invalid_argument("a preview of " + std::to_string(latents.size()) + " values at scale " +
                            std::to_string(scale) + ", wanted " + std::to_string(shape.values()) +
                            " and at least 1");
  }
  const size_t plane = size_t(shape.height) * size_t(shape.width);
  const size_t clip = plane * size_t(shape.frames);
  std::vector<float> colours(3 * clip, 0.f);  // [3, F, h, w]
  for (int c = 0; c < shape.channels; ++c) {
    const std::span<const float> channel = latents.subspan(size_t(c) * clip, clip);
    double sum = 0, squares = 0;
    for (const float v : channel) sum += v;
    const double mean = sum / double(clip);
    for (const float v : channel) squares += (v - mean) * (v - mean);
    const double deviation = std::sqrt(squares / double(clip));
    const int members = (shape.channels - 1 - c % 3) / 3 + 1;  // channels of this colour
    const double gain = deviation > 0 ? 48 / (deviation * std::sqrt(double(members))) : 0;
    float* colour = colours.data() + size_t(c % 3) * clip;
    for (size_t i = 0; i < clip; ++i) colour[i] += float((channel[i] - mean) * gain);
  }
  std::vector<Image> out;
  for (int f = 0; f < shape.frames; ++f) {
    Image image{shape.width * scale, shape.height * scale, {}};
    image.rgb.reserve(plane * size_t(scale) * size_t(scale) * 3);
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        const size_t at =
            size_t(f) * plane + size_t(y / scale) * size_t(shape.width) + size_t(x / scale);
        for (size_t j = 0; j < 3; ++j) {
          const long value = std::lround(128 + colours[j * clip + at]);
          image.rgb.push_back(static_cast<uint8_t>(std::clamp(value, 0L, 255L)));
        }
      }
    }
    out.push_back(std::move(image));
  }
  return out;
}

}  // namespace flashomni

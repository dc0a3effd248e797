// SPDX-License-Identifier: Apache-2.0
#include "io/image_resize.h"

#include <algorithm>
#include <cmath>

namespace flashomni {
namespace {

// The source pixels of one output pixel along one axis, and their weights, which sum to 1.
struct Taps {
  int begin = 0;
  std::vector<float> weights;
};

std::vector<Taps> filter_taps(int from, int to) {
  const double scale = double(from) / to;
  const double radius = std::max(scale, 1.0);  // of the triangle, in source pixels
  std::vector<Taps> out(size_t(to), Taps{});
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    Taps& t = out[size_t(i)];
    t.begin = std::max(0, int(std::floor(centre - radius)));
    const int end = std::min(from, int(std::ceil(centre + radius)));
    double sum = 0;
    for (int s = t.begin; s < end; ++s) {
      const double w = std::max(0.0, 1 - std::abs(s + 0.5 - centre) / radius);
      t.weights.push_back(float(w));
      sum += w;
    }
    for (float& w : t.weights) w = float(w / sum);
  }
  return out;
}

}  // namespace

Image resize_image(const Image& image, int width, int height) {
  if (image.width == width && image.height == height) return image;
  // Along rows first, in f32, then along columns.
  const std::vector<Taps> across = filter_taps(image.width, width);
  std::vector<float> rows(size_t(image.height) * size_t(width) * 3);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* source = image.rgb.data() + size_t(y) * size_t(image.width) * 3;
    float* row = rows.data() + size_t(y) * size_t(width) * 3;
    for (int x = 0; x < width; ++x) {
      const Taps& t = across[size_t(x)];
      for (int c = 0; c < 3; ++c) {
        float sum = 0;
        for (size_t k = 0; k < t.weights.size(); ++k) {
          sum += t.weights[k] * source[(size_t(t.begin) + k) * 3 + size_t(c)];
        }
        row[x * 3 + c] = sum;
      }
    }
  }
  const std::vector<Taps> down = filter_taps(image.height, height);
  const size_t pitch = size_t(width) * 3;
  Image out{width, height, std::vector<uint8_t>(size_t(height) * pitch)};
  for (int y = 0; y < height; ++y) {
    const Taps& t = down[size_t(y)];
    for (size_t x = 0; x < pitch; ++x) {
      float sum = 0;
      for (size_t k = 0; k < t.weights.size(); ++k) {
        sum += t.weights[k] * rows[(size_t(t.begin) + k) * pitch + x];
      }
      out.rgb[size_t(y) * pitch + x] = static_cast<uint8_t>(std::clamp(std::lround(sum), 0L, 255L));
    }
  }
  return out;
}

Image fit_image(const Image& image, int width, int height) {
  const double factor = std::min(double(width) / image.width, double(height) / image.height);
  const int w = std::clamp(int(std::lround(image.width * factor)), 1, width);
  const int h = std::clamp(int(std::lround(image.height * factor)), 1, height);
  Image scaled = resize_image(image, w, h);
  if (w == width && h == height) return scaled;
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3, 255)};
  const int left = (width - w) / 2, top = (height - h) / 2;
  for (int y = 0; y < h; ++y) {
    std::copy_n(scaled.rgb.data() + size_t(y) * size_t(w) * 3, size_t(w) * 3,
                out.rgb.data() + (size_t(top + y) * size_t(width) + size_t(left)) * 3);
  }
  return out;
}

}  // namespace flashomni

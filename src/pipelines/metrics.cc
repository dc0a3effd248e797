// SPDX-License-Identifier: Apache-2.0
#include "pipelines/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace flashomni {
namespace {

Status same_size(const Image& a, const Image& b) {
  if (a.width == b.width && a.height == b.height) return ok_status();
  return invalid_argument("pictures of " + std::to_string(a.width) + "x" +
                          std::to_string(a.height) + " and " + std::to_string(b.width) + "x" +
                          std::to_string(b.height) + " cannot be compared");
}

constexpr int kRadius = 5;
constexpr int kWindow = 2 * kRadius + 1;

std::array<double, kWindow> gaussian() {
  std::array<double, kWindow> w{};
  double sum = 0;
  for (int i = 0; i < kWindow; ++i) {
    const double x = i - kRadius;
    sum += w[size_t(i)] = std::exp(-x * x / (2 * 1.5 * 1.5));
  }
  for (double& v : w) v /= sum;
  return w;
}

struct Plane {
  int width = 0, height = 0;
  std::vector<double> v;
  double at(int y, int x) const { return v[size_t(y) * size_t(width) + size_t(x)]; }
};

Plane luma(const Image& image) {
  Plane p{image.width, image.height, {}};
  for (size_t i = 0; i + 2 < image.rgb.size(); i += 3) {
    p.v.push_back(0.299 * image.rgb[i] + 0.587 * image.rgb[i + 1] + 0.114 * image.rgb[i + 2]);
  }
  return p;
}

Plane product(const Plane& a, const Plane& b) {
  Plane p{a.width, a.height, {}};
  for (size_t i = 0; i < a.v.size(); ++i) p.v.push_back(a.v[i] * b.v[i]);
  return p;
}

// Separable Gaussian filter over the positions where the whole window fits.
Plane blur(const Plane& p) {
  static const std::array<double, kWindow> w = gaussian();
  Plane rows{p.width - kWindow + 1, p.height, {}};
  for (int y = 0; y < rows.height; ++y) {
    for (int x = 0; x < rows.width; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) sum += w[size_t(i)] * p.at(y, x + i);
      rows.v.push_back(sum);
    }
  }
  Plane out{rows.width, p.height - kWindow + 1, {}};
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) sum += w[size_t(i)] * rows.at(y + i, x);
      out.v.push_back(sum);
    }
  }
  return out;
}

}  // namespace

Result<double> psnr_db(const Image& a, const Image& b) {
  FO_RETURN_IF_ERROR(same_size(a, b));
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const double d = double(a.rgb[i]) - double(b.rgb[i]);
    sum += d * d;
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * double(a.rgb.size()) / sum);
}

Result<double> ssim(const Image& a, const Image& b) {
  FO_RETURN_IF_ERROR(same_size(a, b));
  if (a.width < kWindow || a.height < kWindow) {
    return invalid_argument("SSIM of a " + std::to_string(a.width) + "x" +
                            std::to_string(a.height) + " picture, wanted at least 11x11");
  }
  const Plane x = luma(a), y = luma(b);
  const Plane mx = blur(x), my = blur(y);
  const Plane xx = blur(product(x, x)), yy = blur(product(y, y)), xy = blur(product(x, y));
  constexpr double kC1 = 0.01 * 255 * 0.01 * 255, kC2 = 0.03 * 255 * 0.03 * 255;
  double sum = 0;
  for (size_t i = 0; i < mx.v.size(); ++i) {
    const double vx = xx.v[i] - mx.v[i] * mx.v[i], vy = yy.v[i] - my.v[i] * my.v[i];
    const double cov = xy.v[i] - mx.v[i] * my.v[i];
    sum += (2 * mx.v[i] * my.v[i] + kC1) * (2 * cov + kC2) /
           ((mx.v[i] * mx.v[i] + my.v[i] * my.v[i] + kC1) * (vx + vy + kC2));
  }
  return sum / double(mx.v.size());
}

Result<Image> amplified_difference(const Image& a, const Image& b, int gain) {
  FO_RETURN_IF_ERROR(same_size(a, b));
  Image out{a.width, a.height, std::vector<uint8_t>(a.rgb.size())};
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    out.rgb[i] =
        static_cast<uint8_t>(std::min(255, gain * std::abs(int(a.rgb[i]) - int(b.rgb[i]))));
  }
  return out;
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "pipelines/noise.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace flashomni {
namespace {

constexpr size_t kGroup = 16;

// 24 random bits as a multiple of 2^-24 in [0, 1).
float uniform(std::mt19937& generator) {
  return static_cast<float>(generator() & 0xffffffu) * 0x1p-24f;
}

// Turns 16 uniforms into 16 normals: value i and i + 8 share a radius and an angle.
void box_muller(float* x) {
  constexpr size_t kHalf = kGroup / 2;
  for (size_t i = 0; i < kHalf; ++i) {
    const float radius = std::sqrt(-2.f * std::log(1.f - x[i]));
    const float angle = 6.28318530717958647692f * x[i + kHalf];
    x[i] = radius * std::cos(angle);
    x[i + kHalf] = radius * std::sin(angle);
  }
}

}  // namespace

std::vector<float> torch_randn(uint64_t seed, size_t count) {
  std::mt19937 generator(static_cast<uint32_t>(seed));
  std::vector<float> out(std::max(count, kGroup));
  for (float& x : out) x = uniform(generator);
  for (size_t i = 0; i + kGroup <= out.size(); i += kGroup) box_muller(&out[i]);
  if (out.size() % kGroup != 0) {
    // The last, partial group is replaced by a fresh whole one that overlaps its predecessor.
    float* tail = &out[out.size() - kGroup];
    for (size_t i = 0; i < kGroup; ++i) tail[i] = uniform(generator);
    box_muller(tail);
  }
  out.resize(count);
  return out;
}

}  // namespace flashomni

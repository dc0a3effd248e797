// SPDX-License-Identifier: Apache-2.0
#include "models/random_weights.h"

#include <algorithm>
#include <cmath>

#include "base/ceil_div.h"
#include "base/half.h"
#include "base/rng.h"

namespace flashomni {
namespace {

constexpr int64_t kChunk = int64_t{1} << 16;  // values of one generator

uint64_t hash_name(const std::string& name, uint64_t seed) {
  uint64_t h = seed ^ 0xcbf29ce484222325ull;  // FNV-1a
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return h;
}

struct Distribution {
  float mean = 0;
  float deviation = 0;
};

Distribution distribution_of(const std::string& name, const std::vector<int64_t>& shape) {
  if (shape.size() < 2) {
    if (name.ends_with("weight")) return {1.f, 0.1f};
    return {0.f, 0.02f};
  }
  const bool modulation = name.find("norm") != std::string::npos;
  int64_t in = 1;
  for (size_t i = 1; i < shape.size(); ++i) in *= shape[i];
  return {0.f, (modulation ? 0.3f : 1.f) / std::sqrt(static_cast<float>(std::max<int64_t>(1, in)))};
}

}  // namespace

TensorEntry RandomWeights::make(const std::string& name, const std::vector<int64_t>& shape,
                                std::vector<uint8_t>& memory) {
  TensorEntry e;
  e.name = name;
  e.dtype = StoredDType::kBF16;
  e.shape = shape;
  const int64_t numel = e.numel();
  memory.resize(static_cast<size_t>(numel) * sizeof(uint16_t));
  auto* const values = reinterpret_cast<uint16_t*>(memory.data());
  const Distribution d = distribution_of(name, shape);
  // Four 16-bit uniforms have a variance of 4 * 65536^2 / 12.
  const float scale = d.deviation / (65536.f / std::sqrt(3.f));
  const uint64_t start = hash_name(name, seed_);
  threads_.run(ceil_div(numel, kChunk), [&](int64_t chunk, int) {
    Rng rng(start + static_cast<uint64_t>(chunk) * 0xd1b54a32d192ed03ull);
    const int64_t end = std::min(numel, (chunk + 1) * kChunk);
    for (int64_t i = chunk * kChunk; i < end; ++i) {
      const uint64_t r = rng.next();
      const auto sum =
          static_cast<int64_t>((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
      values[i] = f32_to_bf16(d.mean + scale * static_cast<float>(sum - 2 * 65535));
    }
  });
  e.data = memory.data();
  e.bytes = memory.size();
  return e;
}

}  // namespace flashomni

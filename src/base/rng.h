// SPDX-License-Identifier: Apache-2.0
//
// Small deterministic generator (SplitMix64) for strategies, tests and random weights: the same
// seed gives the same sequence on every platform, which std:: distributions do not promise.
#pragma once

#include <cmath>
#include <cstdint>

namespace flashomni {

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // Uniform in [0, n). REQUIRES n > 0. The bias is below n / 2^64.
  uint64_t below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  int range(int lo, int hi) { return lo + static_cast<int>(below(uint64_t(hi - lo + 1))); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool coin(double p) { return uniform() < p; }
  // Standard normal (Box-Muller, one value a call).
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform());
  }

 private:
  uint64_t state_;
};

}  // namespace flashomni

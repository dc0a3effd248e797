// SPDX-License-Identifier: Apache-2.0
#include "cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace flashomni::cpu {

double measure_peak_flops(const Context& context) {
  constexpr int kBursts = 8;
  constexpr int64_t kRounds = 1'000'000;
  const int threads = context.pool.size();
  std::atomic<float> keep{0};  // so that the loop has a result somebody could read
  double best = 0;
  for (int burst = 0; burst < kBursts; ++burst) {
    const auto start = std::chrono::steady_clock::now();
    context.pool.run(threads, [&](int64_t, int) {
      keep.store(context.kernels.fma_rounds(kRounds), std::memory_order_relaxed);
    });
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, double(threads) * kRounds * context.kernels.fma_round_flops / seconds);
  }
  return best;
}

}  // namespace flashomni::cpu

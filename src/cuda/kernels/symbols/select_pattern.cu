// SPDX-License-Identifier: Apache-2.0
//
// Static patterns by head: a CTA a head adds up the pooled attention that each pattern keeps, takes
// the best one and copies its rows.
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kAtOnce = 4;  // patterns

struct PatternArgs {
  const float* scores;
  int64_t score_batch, score_head, score_row;
  const uint64_t* c;
  uint64_t* s;
  BlockRange keep_q;
  const uint64_t* patterns;  // [count][num_q][s_words]
  int count;
  int32_t* choice;
  int64_t choice_batch, choice_head;
  int heads, num_q, num_kv, c_words, s_words;
};

__global__ __launch_bounds__(kThreads) void select_pattern_kernel(PatternArgs a) {
  __shared__ double parts[kWarps][kAtOnce];
  __shared__ int best;
  chain_release();
  chain_wait();
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t group = blockIdx.x;
  const int64_t b = group / a.heads, h = group % a.heads;
  const float* const scores = a.scores + b * a.score_batch + h * a.score_head;
  const auto active = [&](int i) { return a.c[group * a.c_words + i / 64] >> (i % 64) & 1; };

  double best_mass = -1;  // thread 0's
  if (threadIdx.x == 0) best = 0;
  for (int p0 = 0; p0 < a.count; p0 += kAtOnce) {
    double mass[kAtOnce] = {};
    for (int i = warp; i < a.num_q; i += kWarps) {
      if (!active(i) || (a.keep_q.begin <= i && i < a.keep_q.end)) continue;
      const float* const z = scores + i * a.score_row;
      // What is not a number weighs nothing.
      const auto usable = [&](int j) { return isnan(z[j]) ? -INFINITY : z[j]; };
      float top = -INFINITY;
      for (int j = lane; j < a.num_kv; j += kWarp) top = fmaxf(top, usable(j));
      top = warp_reduce(top, Max{});
      double sum = 0, kept[kAtOnce] = {};
      for (int j = lane; j < a.num_kv; j += kWarp) {
        const float x = usable(j);
        const double weight =
            x == top ? 1.0 : exp(static_cast<double>(x) - static_cast<double>(top));
        sum += weight;
#pragma unroll
        for (int p = 0; p < kAtOnce; ++p) {
          if (p0 + p >= a.count) break;
          const uint64_t word = a.patterns[(int64_t{p0 + p} * a.num_q + i) * a.s_words + j / 64];
          if (word >> (j % 64) & 1) kept[p] += weight;
        }
      }
      sum = warp_reduce(sum, Add{});
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) mass[p] += warp_reduce(kept[p], Add{}) / sum;
    }
    if (lane == 0) {
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) parts[warp][p] = mass[p];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int p = 0; p < kAtOnce && p0 + p < a.count; ++p) {
        double total = 0;
        for (int w = 0; w < kWarps; ++w) total += parts[w][p];
        if (total > best_mass) {
          best = p0 + p;
          best_mass = total;
        }
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0 && a.choice) a.choice[b * a.choice_batch + h * a.choice_head] = best;
  const uint64_t* const pattern = a.patterns + int64_t{best} * a.num_q * a.s_words;
  uint64_t* const out = a.s + group * a.num_q * a.s_words;
  const int words = a.num_q * a.s_words;
  for (int n = static_cast<int>(threadIdx.x); n < words; n += kThreads) {
    out[n] = active(n / a.s_words) ? pattern[n] : 0;
  }
}

}  // namespace

Status select_pattern(cudaStream_t stream, const SelectPatternParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  PatternArgs args{};
  args.scores = p.scores.as<float>();
  args.score_batch = p.scores.stride[0];
  args.score_head = p.scores.stride[1];
  args.score_row = p.scores.stride[2];
  args.c = p.symbols.c;
  args.s = p.symbols.s;
  args.keep_q = p.keep_q;
  args.patterns = p.patterns;
  args.count = p.count;
  if (p.choice) {
    args.choice = p.choice.as<int32_t>();
    args.choice_batch = p.choice.stride[0];
    args.choice_head = p.choice.stride[1];
  }
  args.heads = g.heads;
  args.num_q = g.num_q_blocks();
  args.num_kv = g.num_kv_blocks();
  args.c_words = g.c_words();
  args.s_words = g.s_words();
  return cuda_status(launch_chained(select_pattern_kernel, static_cast<unsigned>(g.batch * g.heads),
                                    kThreads, 0, stream, args),
                     "launching select_pattern");
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// Sets a range of kv blocks in every computed row of S_s: one thread a word.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxGrid = 1024;

// Bits [0, n) of a word, n clamped to the word.
__device__ __forceinline__ uint64_t bits_below(int n) {
  if (n <= 0) return 0;
  return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

__global__ __launch_bounds__(kThreads) void keep_kernel(SymbolsView symbols, BlockRange keep,
                                                        int num_q, int c_words, int s_words,
                                                        int64_t words) {
  chain_release();
  chain_wait();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; at < words;
       at += stride) {
    const int64_t row = at / s_words, group = row / num_q;
    const int i = static_cast<int>(row - group * num_q);
    if (!((symbols.c[group * c_words + i / 64] >> (i % 64)) & 1)) continue;
    const int first = 64 * static_cast<int>(at - row * s_words);
    const uint64_t mask = bits_below(keep.end - first) & ~bits_below(keep.begin - first);
    if (mask) symbols.s[at] |= mask;
  }
}

}  // namespace

Status keep_columns(cudaStream_t stream, const KeepColumnsParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  const int64_t words = g.total_s_words();
  const auto grid = static_cast<unsigned>(std::min((words + kThreads - 1) / kThreads, kMaxGrid));
  return cuda_status(launch_chained(keep_kernel, grid, kThreads, 0, stream, p.symbols, p.keep,
                                    g.num_q_blocks(), g.c_words(), g.s_words(), words),
                     "launching keep_columns");
}

}  // namespace flashomni::cuda

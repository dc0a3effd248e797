// SPDX-License-Identifier: Apache-2.0
//
// How many rows and pairs the symbols compute.
#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void count_kernel(SymbolsView symbols, int num_q, int num_kv,
                                                         int c_words, int s_words, int64_t rows,
                                                         SymbolCountParts* parts) {
  __shared__ int64_t scratch[kBlockScratch];
  chain_release();
  chain_wait();
  int64_t active_rows = 0, active_pairs = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; row < rows;
       row += stride) {
    const int64_t group = row / num_q;
    const int i = static_cast<int>(row - group * num_q);
    if (!((symbols.c[group * c_words + i / 64] >> (i % 64)) & 1)) continue;
    ++active_rows;
    const uint64_t* words = symbols.s + row * s_words;
    for (int w = 0; w < s_words; ++w) {
      const int used = num_kv - 64 * w;  // bits; those past the last block do not count
      const uint64_t mask = used >= 64 ? ~uint64_t{0} : (uint64_t{1} << used) - 1;
      active_pairs += __popcll(words[w] & mask);
    }
  }
  active_rows = block_reduce(active_rows, int64_t{0}, Add{}, scratch);
  active_pairs = block_reduce(active_pairs, int64_t{0}, Add{}, scratch);
  if (threadIdx.x == 0) parts->parts[blockIdx.x] = {active_rows, active_pairs};
}

}  // namespace

Status count_symbols(cudaStream_t stream, const SymbolsView& symbols, SymbolCountParts* parts) {
  const SymbolGeometry& g = symbols.geometry;
  return cuda_status(
      launch_chained(count_kernel, SymbolCountParts::kParts, kThreads, 0, stream, symbols,
                     g.num_q_blocks(), g.num_kv_blocks(), g.c_words(), g.s_words(),
                     int64_t{g.batch} * g.heads * g.num_q_blocks(), parts),
      "launching count_symbols");
}

}  // namespace flashomni::cuda

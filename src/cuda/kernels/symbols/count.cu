// SPDX-License-Identifier: Apache-2.0
//
// How many rows and pairs the symbols compute.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 256;

// The y-th row of CTAs counts the y-th set.
struct CountArgs {
  struct Set {
    const uint64_t* c;
    const uint64_t* s;
    SymbolCountParts* parts;
  };
  Set sets[kMaxSymbolBatch];
  int num_q, num_kv, c_words, s_words;
  int64_t rows;
};

__global__ __launch_bounds__(kThreads) void count_kernel(const __grid_constant__ CountArgs a) {
  __shared__ int64_t scratch[kBlockScratch];
  chain_release();
  chain_wait();
  const CountArgs::Set set = a.sets[blockIdx.y];
  int64_t active_rows = 0, active_pairs = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; row < a.rows;
       row += stride) {
    const int64_t group = row / a.num_q;
    const int i = static_cast<int>(row - group * a.num_q);
    if (!((set.c[group * a.c_words + i / 64] >> (i % 64)) & 1)) continue;
    ++active_rows;
    const uint64_t* words = set.s + row * a.s_words;
    for (int w = 0; w < a.s_words; ++w) {
      const int used = a.num_kv - 64 * w;  // bits; those past the last block do not count
      const uint64_t mask = used >= 64 ? ~uint64_t{0} : (uint64_t{1} << used) - 1;
      active_pairs += __popcll(words[w] & mask);
    }
  }
  active_rows = block_reduce(active_rows, int64_t{0}, Add{}, scratch);
  active_pairs = block_reduce(active_pairs, int64_t{0}, Add{}, scratch);
  if (threadIdx.x == 0) set.parts->parts[blockIdx.x] = {active_rows, active_pairs};
}

}  // namespace

Status count_symbols(cudaStream_t stream, std::span<const SymbolCountJob> jobs) {
  while (!jobs.empty()) {
    const auto now = jobs.first(std::min<size_t>(jobs.size(), kMaxSymbolBatch));
    jobs = jobs.subspan(now.size());
    const SymbolGeometry& g = now[0].symbols.geometry;
    CountArgs args{.num_q = g.num_q_blocks(),
                   .num_kv = g.num_kv_blocks(),
                   .c_words = static_cast<int>(g.c_words()),
                   .s_words = static_cast<int>(g.s_words()),
                   .rows = int64_t{g.batch} * g.heads * g.num_q_blocks()};
    for (size_t n = 0; n < now.size(); ++n) {
      args.sets[n] = {now[n].symbols.c, now[n].symbols.s, now[n].parts};
    }
    const dim3 grid(SymbolCountParts::kParts, static_cast<unsigned>(now.size()));
    FO_RETURN_IF_ERROR(cuda_status(launch_chained(count_kernel, grid, kThreads, 0, stream, args),
                                   "launching count_symbols"));
  }
  return ok_status();
}

}  // namespace flashomni::cuda

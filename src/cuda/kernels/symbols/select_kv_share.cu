// SPDX-License-Identifier: Apache-2.0
//
// S_s by one threshold a head. First a warp a row turns scores into weights; then a CTA a head
// finds the k-th smallest weight, 8 bits of it at a time, and packs what is not below it. Counts
// are integers: the order of the threads changes nothing.
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kWeightThreads = 128;
constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

struct ShareArgs {
  float* scores;
  int64_t score_batch, score_head, score_row;
  const uint64_t* c;
  uint64_t* s;
  BlockRange keep_q, keep_kv;
  double share;
  int heads, num_q, num_kv, c_words, s_words;
  int block_q, block_kv;

  __device__ __forceinline__ float* row(int64_t group, int i) const {
    return scores + group / heads * score_batch + group % heads * score_head + i * score_row;
  }
  __device__ __forceinline__ bool active(int64_t group, int i) const {
    return c[group * c_words + i / 64] >> (i % 64) & 1;
  }
  // Rows and columns that the threshold judges.
  __device__ __forceinline__ bool free_row(int64_t group, int i) const {
    return active(group, i) && !(keep_q.begin <= i && i < keep_q.end);
  }
  __device__ __forceinline__ bool free_column(int j) const {
    return j < num_kv && !(keep_kv.begin <= j && j < keep_kv.end);
  }
};

// The softmax of every free row over its free columns, in place.
__global__ __launch_bounds__(kWeightThreads) void row_weights_kernel(ShareArgs a, int64_t rows) {
  chain_release();
  chain_wait();
  const int64_t row = int64_t{blockIdx.x} * (kWeightThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int64_t group = row / a.num_q;
  const int i = static_cast<int>(row - group * a.num_q);
  if (!a.free_row(group, i)) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float* const z = a.row(group, i);
  // What is not a number weighs nothing.
  const auto usable = [&](int j) { return isnan(z[j]) ? -INFINITY : z[j]; };
  float top = -INFINITY;
  for (int j = lane; j < a.num_kv; j += kWarp) {
    if (a.free_column(j)) top = fmaxf(top, usable(j));
  }
  top = warp_reduce(top, Max{});
  const auto weight = [&](int j) {
    const float x = usable(j);
    return x == top ? 1.0 : exp(static_cast<double>(x) - static_cast<double>(top));
  };
  double sum = 0;
  for (int j = lane; j < a.num_kv; j += kWarp) {
    if (a.free_column(j)) sum += weight(j);
  }
  sum = warp_reduce(sum, Add{});
  for (int j = lane; j < a.num_kv; j += kWarp) {
    if (a.free_column(j)) z[j] = static_cast<float>(weight(j) / sum);
  }
}

constexpr uint32_t kNoWeight = ~0u;  // weights are 0 to 1

// Calls use(bits) by all lanes of a warp together with the bits of the weights of the head's free
// pairs, each once; kNoWeight where a lane has none.
template <class Use>
__device__ void for_each_weight(const ShareArgs& a, int64_t group, const Use& use) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int i = static_cast<int>(threadIdx.x / kWarp); i < a.num_q; i += kWarps) {
    if (!a.free_row(group, i)) continue;
    const float* const weights = a.row(group, i);
    for (int j0 = 0; j0 < a.num_kv; j0 += kWarp) {  // the same for all lanes
      const int j = j0 + lane;
      use(a.free_column(j) ? __float_as_uint(weights[j]) : kNoWeight);
    }
  }
}

// The k-th smallest (from 1) weight. They are not negative, so that they sort like their bits.
__device__ float kth_smallest(const ShareArgs& a, int64_t group, int k, int* counts, int* scratch) {
  __shared__ int chosen_digit, rest;
  uint32_t prefix = 0, known = 0;  // the bits found so far, and which these are
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    if (threadIdx.x < kDigits) counts[threadIdx.x] = 0;
    __syncthreads();
    for_each_weight(a, group, [&](uint32_t bits) {
      const bool counted = bits != kNoWeight && (bits & known) == prefix;
      const unsigned digit = counted ? bits >> shift & (kDigits - 1) : kDigits;
      const unsigned peers = __match_any_sync(kAllLanes, digit);
      const int first = __ffs(static_cast<int>(peers)) - 1;
      if (counted && static_cast<int>(threadIdx.x % kWarp) == first) {
        atomicAdd(&counts[digit], __popc(peers));
      }
    });
    __syncthreads();
    const int own = threadIdx.x < kDigits ? counts[threadIdx.x] : 0;
    int total;
    const int before = block_exclusive_sum(own, scratch, total);
    if (before < k && k <= before + own) {
      chosen_digit = static_cast<int>(threadIdx.x);
      rest = k - before;
    }
    __syncthreads();
    prefix |= static_cast<uint32_t>(chosen_digit) << shift;
    known |= static_cast<uint32_t>(kDigits - 1) << shift;
    k = rest;
    __syncthreads();
  }
  return __uint_as_float(prefix);
}

__global__ __launch_bounds__(kThreads, 1) void select_kv_share_kernel(ShareArgs a) {
  __shared__ int counts[kDigits];
  __shared__ int scratch[kBlockScratch];
  chain_release();
  chain_wait();
  const int64_t group = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  int free_rows = 0, free_columns = 0;
  for (int i = static_cast<int>(threadIdx.x); i < a.num_q; i += kThreads) {
    free_rows += a.free_row(group, i);
  }
  for (int j = static_cast<int>(threadIdx.x); j < a.num_kv; j += kThreads) {
    free_columns += a.free_column(j);
  }
  const int entries =
      block_reduce(free_rows, 0, Add{}, scratch) * block_reduce(free_columns, 0, Add{}, scratch);
  const int k = min(static_cast<int>(floor(a.share * entries)), entries);
  const float threshold = k > 0 ? kth_smallest(a, group, k, counts, scratch) : 0.f;

  for (int i = static_cast<int>(threadIdx.x / kWarp); i < a.num_q; i += kWarps) {
    const bool active = a.active(group, i), judged = a.free_row(group, i);
    const float* const weights = a.row(group, i);
    uint32_t* const words = reinterpret_cast<uint32_t*>(a.s + (group * a.num_q + i) * a.s_words);
    bool any = false;
    for (int w = 0; w < 2 * a.s_words; ++w) {
      const int j = w * kWarp + lane;
      const bool kept =
          active && j < a.num_kv && (!judged || !a.free_column(j) || weights[j] >= threshold);
      const uint32_t bits = __ballot_sync(kAllLanes, kept);
      any = any || bits != 0;
      if (lane == 0) words[w] = bits;
    }
    if (active && !any && lane == 0) {
      // The kv block of the row block's first token, or the last one.
      const int j = min(i * a.block_q / a.block_kv, a.num_kv - 1);
      words[j / 32] = 1u << (j % 32);
    }
  }
}

}  // namespace

Status select_kv_share(cudaStream_t stream, const SelectKvShareParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  ShareArgs args{};
  args.scores = p.scores.as<float>();
  args.score_batch = p.scores.stride[0];
  args.score_head = p.scores.stride[1];
  args.score_row = p.scores.stride[2];
  args.c = p.symbols.c;
  args.s = p.symbols.s;
  args.keep_q = p.keep_q;
  args.keep_kv = p.keep_kv;
  args.share = p.share;
  args.heads = g.heads;
  args.num_q = g.num_q_blocks();
  args.num_kv = g.num_kv_blocks();
  args.c_words = g.c_words();
  args.s_words = g.s_words();
  args.block_q = g.block_q;
  args.block_kv = g.block_kv;
  const auto groups = static_cast<unsigned>(g.batch * g.heads);
  const int64_t rows = int64_t{groups} * args.num_q;
  constexpr int64_t kRows = kWeightThreads / kWarp;
  FO_CUDA(launch_chained(row_weights_kernel, static_cast<unsigned>((rows + kRows - 1) / kRows),
                         kWeightThreads, 0, stream, args, rows),
          "launching select_kv_share");
  return cuda_status(launch_chained(select_kv_share_kernel, groups, kThreads, 0, stream, args),
                     "launching select_kv_share");
}

}  // namespace flashomni::cuda

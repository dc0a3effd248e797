// SPDX-License-Identifier: Apache-2.0
//
// S_s of long rows: a CTA a query block does softmax, sorting, the rule, protection, repair and
// packing. Shorter rows take select_kv_short.cu.
#include <bit>
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select.h"
#include "cuda/kernels/symbols/select_kv_args.h"
#include "cuda/kernels/symbols/sort.cuh"

namespace flashomni::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWords = kMaxSelectKv / 32;

__device__ __forceinline__ void set_bit(uint32_t* words, int j) {
  atomicOr(&words[j / 32], 1u << (j % 32));
}

// Key: the score in ascending (kDropCdf) or descending order, then the block, ascending.
__device__ __forceinline__ float score_of(uint64_t key, bool drop) {
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  return from_ordered_bits(drop ? bits : ~bits);
}

// The entries of a sorted row that are kept: [from, to).
struct Kept {
  int from, to;
};

__device__ Kept apply_rule(const SelectKvArgs& a, const uint64_t* keys, double* scratch,
                           int* int_scratch) {
  const int n = a.num_kv;
  const bool drop = a.rule == SelectRule::kDropCdf;
  const float top = score_of(keys[drop ? n - 1 : 0], drop);
  const auto weight = [&](int r) {
    const float z = score_of(keys[r], drop);
    return z == top ? 1.0 : exp(static_cast<double>(z) - static_cast<double>(top));
  };
  const double limit = a.parameter;
  switch (a.rule) {
    case SelectRule::kDropCdf: {
      const auto above = [&](double sum, int) { return sum > limit; };
      return {min(first_stop(n, weight, above, scratch, int_scratch), n - 1), n};
    }
    case SelectRule::kKeepCdfLt: {
      const auto above = [&](double sum, int) { return sum > limit; };
      return {0, max(first_stop(n, weight, above, scratch, int_scratch), 1)};
    }
    case SelectRule::kKeepCdfGe: {
      // The entry that takes the sum to the limit is the last one kept.
      const auto reached = [&](double sum, int) { return !(sum < limit); };
      return {0, min(first_stop(n, weight, reached, scratch, int_scratch) + 1, n)};
    }
    case SelectRule::kTopK:
      break;
  }
  // Also none for a parameter that is not a number.
  if (!(a.parameter >= 1.f)) return {0, 0};
  return {0, static_cast<int>(fmin(floor(limit), static_cast<double>(n)))};
}

__global__ __launch_bounds__(kMaxThreads) void select_kv_kernel(SelectKvArgs a, int num_keys) {
  extern __shared__ __align__(16) char dynamic[];
  __shared__ uint32_t words[kMaxWords];
  __shared__ double scratch[kBlockScratch];
  __shared__ float float_scratch[kBlockScratch];
  __shared__ int int_scratch[kBlockScratch];
  chain_release();
  chain_wait();
  uint64_t* keys = reinterpret_cast<uint64_t*>(dynamic);  // num_keys: a power of two
  const int tid = threadIdx.x, threads = blockDim.x;
  const int64_t row = blockIdx.x;
  const int i = static_cast<int>(row % a.num_q);
  const int64_t group = row / a.num_q;
  const int64_t h = group % a.heads, b = group / a.heads;
  const int n = a.num_kv;
  uint64_t* out = a.s + row * a.s_words;

  const bool active = (a.c[group * a.c_words + i / 64] >> (i % 64)) & 1;
  if (!active) {
    for (int w = tid; w < a.s_words; w += threads) out[w] = 0;
    return;
  }
  const bool whole = a.keep_q.begin <= i && i < a.keep_q.end
                         ? true
                         : a.gate_q && a.gate_q[b * a.gate_q_batch + h * a.gate_q_head + i] == 0;
  for (int w = tid; w < 2 * a.s_words; w += threads) words[w] = 0;
  if (whole) {
    __syncthreads();
    for (int j = tid; j < n; j += threads) set_bit(words, j);
  } else {
    const float* z = a.scores + b * a.score_batch + h * a.score_head + i * a.score_row;
    const uint8_t* gate_kv =
        a.gate_kv ? a.gate_kv + b * a.gate_kv_batch + h * a.gate_kv_head : nullptr;
    // What is gated off or not a number weighs nothing.
    const auto usable = [&](int j) {
      const float x = z[j];
      return (gate_kv && gate_kv[j] == 0) || isnan(x) ? -INFINITY : x;
    };
    float top = -INFINITY;
    for (int j = tid; j < n; j += threads) top = fmaxf(top, usable(j));
    top = block_reduce(top, -INFINITY, Max{}, float_scratch);
    const bool drop = a.rule == SelectRule::kDropCdf;
    for (int j = tid; j < num_keys; j += threads) {
      uint64_t key = ~uint64_t{0};  // past all blocks
      if (j < n) {
        float x = usable(j);
        if (static_cast<double>(x) - static_cast<double>(top) < kLowestExponent) x = -INFINITY;
        const uint32_t bits = ordered_bits(x);
        key = (static_cast<uint64_t>(drop ? bits : ~bits) << 32) | static_cast<uint32_t>(j);
      }
      keys[j] = key;
    }
    sort_keys(keys, num_keys);
    const Kept kept = apply_rule(a, keys, scratch, int_scratch);
    for (int r = kept.from + tid; r < kept.to; r += threads) {
      set_bit(words, static_cast<int>(static_cast<uint32_t>(keys[r])));
    }
    for (int j = tid; j < n; j += threads) {
      const bool protect = a.keep_kv.begin <= j && j < a.keep_kv.end;
      if (protect || (gate_kv && gate_kv[j] == 0)) set_bit(words, j);
    }
  }
  __syncthreads();
  bool any = false;
  for (int w = tid; w < 2 * a.s_words; w += threads) any = any || words[w] != 0;
  if (!__syncthreads_or(any) && tid == 0) {
    // The kv block of the row block's first token, or the last one.
    set_bit(words, min(i * a.block_q / a.block_kv, n - 1));
  }
  __syncthreads();
  for (int w = tid; w < a.s_words; w += threads) {
    out[w] = words[2 * w] | (static_cast<uint64_t>(words[2 * w + 1]) << 32);
  }
}

}  // namespace

Status select_kv_blocks(cudaStream_t stream, const SelectKvBlocksParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  SelectKvArgs args{};
  args.scores = p.scores.as<float>();
  args.score_batch = p.scores.stride[0];
  args.score_head = p.scores.stride[1];
  args.score_row = p.scores.stride[2];
  if (p.gate_q) {
    args.gate_q = p.gate_q.as<uint8_t>();
    args.gate_q_batch = p.gate_q.stride[0];
    args.gate_q_head = p.gate_q.stride[1];
  }
  if (p.gate_kv) {
    args.gate_kv = p.gate_kv.as<uint8_t>();
    args.gate_kv_batch = p.gate_kv.stride[0];
    args.gate_kv_head = p.gate_kv.stride[1];
  }
  args.c = p.symbols.c;
  args.s = p.symbols.s;
  args.keep_q = p.keep_q;
  args.keep_kv = p.keep_kv;
  args.rule = p.rule;
  args.parameter = p.parameter;
  args.heads = g.heads;
  args.num_q = g.num_q_blocks();
  args.num_kv = g.num_kv_blocks();
  args.c_words = g.c_words();
  args.s_words = g.s_words();
  args.block_q = g.block_q;
  args.block_kv = g.block_kv;
  args.rows = int64_t{g.batch} * g.heads * g.num_q_blocks();
  if (args.num_kv <= kMaxShortRow) {
    return cuda_status(launch_select_kv_short(args, stream), "launching select_kv_blocks");
  }
  const int num_keys = static_cast<int>(std::bit_ceil(static_cast<unsigned>(args.num_kv)));
  FO_CUDA(cudaFuncSetAttribute(select_kv_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               kMaxSelectKv * int{sizeof(uint64_t)}),
          "asking for shared memory for select_kv_blocks");
  const auto bytes = static_cast<size_t>(num_keys) * sizeof(uint64_t);
  return cuda_status(launch_chained(select_kv_kernel, static_cast<unsigned>(args.rows), kMaxThreads,
                                    bytes, stream, args, num_keys),
                     "launching select_kv_blocks");
}

}  // namespace flashomni::cuda

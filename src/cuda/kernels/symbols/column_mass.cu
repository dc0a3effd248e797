// SPDX-License-Identifier: Apache-2.0
//
// How much pooled attention the tokens of each query block receive: a CTA a head first finds the
// softmax of every row, then adds up columns.
#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/scores.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;

struct ColumnArgs {
  const float* scores;
  int64_t score_batch, score_head, score_row;
  float* out;
  int64_t out_batch, out_head;
  int heads, num_q, num_kv, block_q, block_kv;
};

// Of a score in a row with this largest one; what is not a number weighs nothing.
__device__ __forceinline__ double weight(float x, float top) {
  if (x == top) return 1.0;
  return x < top ? exp(static_cast<double>(x) - static_cast<double>(top)) : 0.0;
}

// Dynamic shared memory: of each of the num_q rows its largest score, and 1 / the sum of its
// weights.
__global__ __launch_bounds__(kThreads) void column_mass_kernel(ColumnArgs a) {
  extern __shared__ float2 rows[];
  __shared__ double parts[kWarps][kWarp];
  chain_release();
  chain_wait();
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t b = blockIdx.x / a.heads, h = blockIdx.x % a.heads;
  const float* const z = a.scores + b * a.score_batch + h * a.score_head;
  for (int r = warp; r < a.num_q; r += kWarps) {
    const float* const row = z + r * a.score_row;
    float top = -INFINITY;
    for (int j = lane; j < a.num_kv; j += kWarp) top = fmaxf(top, row[j]);  // passes over NaN
    top = warp_reduce(top, Max{});
    double sum = 0;
    for (int j = lane; j < a.num_kv; j += kWarp) sum += weight(row[j], top);
    sum = warp_reduce(sum, Add{});
    if (lane == 0) rows[r] = make_float2(top, sum > 0 ? static_cast<float>(1 / sum) : 0.f);
  }
  __syncthreads();
  // A lane a query block, a warp every kWarps-th row.
  float* const out = a.out + b * a.out_batch + h * a.out_head;
  for (int i0 = 0; i0 < a.num_q; i0 += kWarp) {
    const int i = i0 + lane;
    const int first = i * a.block_q / a.block_kv;
    const int last = min(((i + 1) * a.block_q - 1) / a.block_kv, a.num_kv - 1);
    double mass = 0;
    for (int r = warp; r < a.num_q && i < a.num_q; r += kWarps) {
      const float2 row = rows[r];
      for (int j = first; j <= last; ++j) {
        mass += weight(z[r * a.score_row + j], row.x) * static_cast<double>(row.y);
      }
    }
    parts[warp][lane] = mass;
    __syncthreads();
    if (warp == 0 && i < a.num_q) {
      double total = 0;
      for (int w = 0; w < kWarps; ++w) total += parts[w][lane];
      out[i] = static_cast<float>(total);
    }
    __syncthreads();
  }
}

}  // namespace

Status column_mass(cudaStream_t stream, const ColumnMassParams& p) {
  if (p.out.numel() == 0) return ok_status();
  const ColumnArgs args{.scores = p.scores.as<float>(),
                        .score_batch = p.scores.stride[0],
                        .score_head = p.scores.stride[1],
                        .score_row = p.scores.stride[2],
                        .out = p.out.as<float>(),
                        .out_batch = p.out.stride[0],
                        .out_head = p.out.stride[1],
                        .heads = static_cast<int>(p.scores.size(1)),
                        .num_q = static_cast<int>(p.scores.size(2)),
                        .num_kv = static_cast<int>(p.scores.size(3)),
                        .block_q = p.block_q,
                        .block_kv = p.block_kv};
  return cuda_status(
      launch_chained(column_mass_kernel, static_cast<unsigned>(p.scores.size(0) * p.scores.size(1)),
                     kThreads, static_cast<size_t>(args.num_q) * sizeof(float2), stream, args),
      "launching column_mass");
}

}  // namespace flashomni::cuda

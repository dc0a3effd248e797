// SPDX-License-Identifier: Apache-2.0
//
// Scores of pooled queries against pooled keys, in full f32: few enough that what counts is to have
// all loads of a tile under way at once.
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/async_copy.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/linear/plain_matmul.h"
#include "cuda/kernels/symbols/pooling.h"

namespace flashomni::cuda {
namespace {

// 48: 36, 132 and 260 blocks (4,608 to 33,280 tokens) fill tiles of 48 better than tiles of 64.
constexpr int kTile = 48;
constexpr int kThreads = 128;
constexpr int kRows = 6, kColumns = 3;  // of a thread: kRows * kColumns * kThreads = kTile^2
constexpr int kChunk = 32;              // channels of a stage
constexpr int kStages = 3;
constexpr int kPitch = kChunk + 4;  // eight neighbouring rows start in different banks
static_assert(kRows * kColumns * kThreads == kTile * kTile);

struct ScoreArgs {
  const float* q;
  const float* k;
  float* out;
  int64_t q_batch, q_head, q_row, k_batch, k_head, k_row, out_batch, out_head, out_row;
  int heads, num_q, num_kv, depth;
  float scale;
};

// Channels [channel, channel + kChunk) of rows [first, first + kTile); zeros outside.
template <bool kVectors>
__device__ __forceinline__ void fetch_rows(float* to, const float* from, int64_t stride, int first,
                                           int rows, int channel, int depth) {
  constexpr int kWidth = kVectors ? 4 : 1;
  constexpr int kPerRow = kChunk / kWidth;
#pragma unroll
  for (int n = threadIdx.x; n < kTile * kPerRow; n += kThreads) {
    const int row = n / kPerRow, c = n % kPerRow * kWidth;
    const bool inside = first + row < rows && channel + c < depth;
    const float* source = inside ? from + (first + row) * stride + channel + c : from;
    if constexpr (kVectors) {
      async_copy_16(to + row * kPitch + c, source, inside);
    } else {
      async_copy_4(to + row * kPitch + c, source, inside);
    }
  }
}

// Grid: (kv tiles, query tiles, batch * heads).
template <bool kVectors>
__global__ __launch_bounds__(kThreads) void scores_kernel(ScoreArgs a) {
  __shared__ __align__(16) float tiles[kStages][2][kTile * kPitch];
  chain_release();
  chain_wait();
  const int h = blockIdx.z % a.heads, b = blockIdx.z / a.heads;
  const int i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
  const float* q = a.q + b * a.q_batch + h * a.q_head;
  const float* k = a.k + b * a.k_batch + h * a.k_head;
  const auto fetch = [&](int chunk) {
    float(*stage)[kTile * kPitch] = tiles[chunk % kStages];
    if (chunk * kChunk < a.depth) {
      fetch_rows<kVectors>(stage[0], q, a.q_row, i0, a.num_q, chunk * kChunk, a.depth);
      fetch_rows<kVectors>(stage[1], k, a.k_row, j0, a.num_kv, chunk * kChunk, a.depth);
    }
    async_copy_commit();
  };
#pragma unroll
  for (int chunk = 0; chunk < kStages; ++chunk) fetch(chunk);

  // Rows ti + 8 r, columns tj + 16 c.
  const int ti = threadIdx.x / 16, tj = threadIdx.x % 16;
  float sum[kRows][kColumns] = {};
  const int chunks = (a.depth + kChunk - 1) / kChunk;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    async_copy_wait<kStages - 1>();
    __syncthreads();
    const float* x = tiles[chunk % kStages][0] + ti * kPitch;
    const float* y = tiles[chunk % kStages][1] + tj * kPitch;
#pragma unroll
    for (int d = 0; d < kChunk; d += 4) {
      float4 xs[kRows], ys[kColumns];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        xs[r] = *reinterpret_cast<const float4*>(x + r * 8 * kPitch + d);
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        ys[c] = *reinterpret_cast<const float4*>(y + c * 16 * kPitch + d);
      }
      // In order of the channels, whatever the tiling.
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          float& s = sum[r][c];
          s = fmaf(xs[r].x, ys[c].x, s);
          s = fmaf(xs[r].y, ys[c].y, s);
          s = fmaf(xs[r].z, ys[c].z, s);
          s = fmaf(xs[r].w, ys[c].w, s);
        }
      }
    }
    __syncthreads();
    fetch(chunk + kStages);
  }
  async_copy_wait<0>();
  float* out = a.out + b * a.out_batch + h * a.out_head;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int i = i0 + ti + 8 * r, j = j0 + tj + 16 * c;
      if (i < a.num_q && j < a.num_kv) out[i * a.out_row + j] = sum[r][c] * a.scale;
    }
  }
}

bool takes_vectors(const TensorView& v) {
  bool aligned = reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && v.size(3) % 4 == 0;
  for (int i = 0; i < 3; ++i) aligned = aligned && (v.size(i) == 1 || v.stride[i] % 4 == 0);
  return aligned;
}

// Pooled queries and keys of 16 bits, which nothing but a caller of its own makes.
Status scores_of_halves(cudaStream_t stream, const BlockScoresParams& p, float scale) {
  PlainMatmul m;
  m.batch = p.q.size(0);
  m.heads = p.q.size(1);
  m.rows = p.q.size(2);
  m.columns = p.k.size(2);
  m.depth = p.q.size(3);
  m.x = p.q;
  m.x_batch = p.q.stride[0];
  m.x_head = p.q.stride[1];
  m.x_row = p.q.stride[2];
  m.w = p.k;
  m.w_batch = p.k.stride[0];
  m.w_head = p.k.stride[1];
  m.w_row = p.k.stride[2];
  m.out = p.out;
  m.out_batch = p.out.stride[0];
  m.out_head = p.out.stride[1];
  m.out_row = p.out.stride[2];
  m.scale = scale;
  return plain_matmul(stream, m);
}

}  // namespace

Status block_scores(cudaStream_t stream, const BlockScoresParams& p) {
  if (p.out.numel() == 0) return ok_status();
  const float scale = p.scale != 0.f ? p.scale : 1.f / std::sqrt(static_cast<float>(p.q.size(3)));
  if (p.q.dtype != DType::kF32 || p.k.dtype != DType::kF32) {
    return scores_of_halves(stream, p, scale);
  }
  const ScoreArgs args{.q = p.q.as<float>(),
                       .k = p.k.as<float>(),
                       .out = p.out.as<float>(),
                       .q_batch = p.q.stride[0],
                       .q_head = p.q.stride[1],
                       .q_row = p.q.stride[2],
                       .k_batch = p.k.stride[0],
                       .k_head = p.k.stride[1],
                       .k_row = p.k.stride[2],
                       .out_batch = p.out.stride[0],
                       .out_head = p.out.stride[1],
                       .out_row = p.out.stride[2],
                       .heads = static_cast<int>(p.q.size(1)),
                       .num_q = static_cast<int>(p.q.size(2)),
                       .num_kv = static_cast<int>(p.k.size(2)),
                       .depth = static_cast<int>(p.q.size(3)),
                       .scale = scale};
  const auto tiles = [](int n) { return static_cast<unsigned>((n + kTile - 1) / kTile); };
  const dim3 grid(tiles(args.num_kv), tiles(args.num_q),
                  static_cast<unsigned>(p.q.size(0) * p.q.size(1)));
  const bool vectors = takes_vectors(p.q) && takes_vectors(p.k);
  const auto kernel = vectors ? scores_kernel<true> : scores_kernel<false>;
  return cuda_status(launch_chained(kernel, grid, kThreads, 0, stream, args),
                     "launching block_scores");
}

}  // namespace flashomni::cuda

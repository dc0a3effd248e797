// SPDX-License-Identifier: Apache-2.0
#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/linear/plain_matmul.h"

namespace flashomni::cuda {
namespace {

__device__ __forceinline__ void finish(const PlainMatmul& m, int64_t b, int64_t h, int64_t i,
                                       int64_t j, float sum) {
  float y[1] = {sum * m.scale + (m.bias ? m.bias[j] : 0.f)};
  if (m.activation == Activation::kGeluTanh) y[0] = gelu_tanh(y[0]);
  if (m.activation == Activation::kSilu) y[0] = silu(y[0]);
  if (m.out.data) {
    store_elements<1>(m.out.data, m.out.dtype, b * m.out_batch + h * m.out_head + i * m.out_row + j,
                      y);
  }
  if (m.residual.data) {
    const int64_t at = b * m.residual_batch + i * m.residual_row + j;
    float gate[1] = {1.f}, r[1];
    if (m.gate.data) load_elements<1>(m.gate.data, m.gate.dtype, b * m.gate_batch + j, gate);
    load_elements<1>(m.residual.data, m.residual.dtype, at, r);
    r[0] = fmaf(gate[0], y[0], r[0]);
    store_elements<1>(m.residual.data, m.residual.dtype, at, r);
  }
}

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kThreads = 256;
constexpr int kPerThread = 4;  // rows and columns

// Rows [first, first + kTile) x depth [k, k + kDepth) of a matrix, transposed; zero outside.
__device__ __forceinline__ void stage(float (&tile)[kDepth][kTile + 4], void* data, DType dtype,
                                      int64_t base, int64_t row_stride, int64_t first, int64_t rows,
                                      int64_t k, int64_t depth) {
  const int row = threadIdx.x / 4, part = threadIdx.x % 4 * 4;
  with_elements(data, dtype, [&](auto* p) {
    p += base + (first + row) * row_stride + k + part;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool inside = first + row < rows && k + part + e < depth;
      tile[part + e][row] = inside ? to_float(p[e]) : 0.f;
    }
  });
}

// Grid: (column tiles, row tiles, batch * heads).
__global__ __launch_bounds__(kThreads) void matmul_kernel(PlainMatmul m) {
  __shared__ float x_tile[kDepth][kTile + 4];
  __shared__ float w_tile[kDepth][kTile + 4];
  const int64_t h = blockIdx.z % m.heads, b = blockIdx.z / m.heads;
  const int64_t i0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t j0 = static_cast<int64_t>(blockIdx.x) * kTile;
  const int ti = threadIdx.x / 16 * kPerThread, tj = threadIdx.x % 16 * kPerThread;
  float sum[kPerThread][kPerThread] = {};
  for (int64_t k = 0; k < m.depth; k += kDepth) {
    stage(x_tile, m.x.data, m.x.dtype, b * m.x_batch + h * m.x_head, m.x_row, i0, m.rows, k,
          m.depth);
    stage(w_tile, m.w.data, m.w.dtype, b * m.w_batch + h * m.w_head, m.w_row, j0, m.columns, k,
          m.depth);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const float4 x = *reinterpret_cast<const float4*>(&x_tile[d][ti]);
      const float4 w = *reinterpret_cast<const float4*>(&w_tile[d][tj]);
      const float xs[kPerThread] = {x.x, x.y, x.z, x.w}, ws[kPerThread] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int r = 0; r < kPerThread; ++r) {
#pragma unroll
        for (int c = 0; c < kPerThread; ++c) sum[r][c] = fmaf(xs[r], ws[c], sum[r][c]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kPerThread; ++r) {
#pragma unroll
    for (int c = 0; c < kPerThread; ++c) {
      const int64_t i = i0 + ti + r, j = j0 + tj + c;
      if (i < m.rows && j < m.columns) finish(m, b, h, i, j, sum[r][c]);
    }
  }
}

// A warp a column, all rows at once. Grid: (column groups, batch * heads).
template <int kStep>
__global__ __launch_bounds__(kThreads) void few_rows_kernel(PlainMatmul m) {
  const int lane = threadIdx.x % kWarp;
  const int64_t j = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int64_t h = blockIdx.y % m.heads, b = blockIdx.y / m.heads;
  if (j >= m.columns) return;
  float sum[kFewRows] = {};
  with_elements(m.w.data, m.w.dtype, [&](auto* w) {
    w += b * m.w_batch + h * m.w_head + j * m.w_row;
    with_elements(m.x.data, m.x.dtype, [&](auto* x) {
      x += b * m.x_batch + h * m.x_head;
      for (int64_t k = lane * kStep; k < m.depth; k += kWarp * kStep) {
        float ws[kStep];
        load_elements<kStep>(w + k, ws);
#pragma unroll
        for (int i = 0; i < kFewRows; ++i) {
          if (i >= m.rows) break;
          float xs[kStep];
          load_elements<kStep>(x + i * m.x_row + k, xs);
#pragma unroll
          for (int e = 0; e < kStep; ++e) sum[i] = fmaf(xs[e], ws[e], sum[i]);
        }
      }
    });
  });
#pragma unroll
  for (int i = 0; i < kFewRows; ++i) {
    sum[i] = warp_reduce(sum[i], Add{});
    if (i < m.rows && lane == i) finish(m, b, h, i, j, sum[i]);
  }
}

constexpr int kVector = 8;

bool takes_vectors(const TensorView& v, int64_t batch, int64_t head, int64_t row) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(v.dtype));
  return reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && batch * bytes % 16 == 0 &&
         head * bytes % 16 == 0 && row * bytes % 16 == 0;
}

unsigned tiles(int64_t n, int64_t tile) {
  return static_cast<unsigned>((n + tile - 1) / tile);
}

}  // namespace

Status plain_matmul(cudaStream_t stream, const PlainMatmul& m) {
  const int64_t groups = m.batch * m.heads;
  if (groups * m.rows * m.columns == 0) return ok_status();
  if (m.rows <= kFewRows) {
    const dim3 grid(tiles(m.columns, kThreads / kWarp), static_cast<unsigned>(groups));
    if (m.depth % kVector == 0 && takes_vectors(m.x, m.x_batch, m.x_head, m.x_row) &&
        takes_vectors(m.w, m.w_batch, m.w_head, m.w_row)) {
      few_rows_kernel<kVector><<<grid, kThreads, 0, stream>>>(m);
    } else {
      few_rows_kernel<1><<<grid, kThreads, 0, stream>>>(m);
    }
  } else {
    const dim3 grid(tiles(m.columns, kTile), tiles(m.rows, kTile), static_cast<unsigned>(groups));
    matmul_kernel<<<grid, kThreads, 0, stream>>>(m);
  }
  return launch_status("a product in f32");
}

}  // namespace flashomni::cuda

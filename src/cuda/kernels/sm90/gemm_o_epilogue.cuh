// SPDX-License-Identifier: Apache-2.0
//
// What GEMM-O does with its sums: bias plane of the update form, or bias, result and gated
// residual. Planes and residual are read 16 bytes a thread, one row of each thread at a time: while
// one row is worked on, the next is on its way, and the first starts before the last products are
// done.
#pragma once

#include "cuda/kernels/sm90/gemm_o_schedule.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kGemmOGroups = kGemmOColumns / 32;
constexpr int kGemmOSums = kGemmOColumns / 2;

// The rows and columns of this thread in a tile: rows `row` and `row` + 8 of the joint sequence, in
// each group of 32 columns the 8 from column + 32 * group.
struct GemmOPlace {
  int row, column;
  int batch;
  bool inside[2];  // in the segment

  __device__ __forceinline__ GemmOPlace(const GemmOArgs& p, const GemmOTile& at, int half) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = static_cast<int>(threadIdx.x / 32 % 4);
    row = at.row + half * kSlotRows + 16 * warp + lane / 4;
    column = at.column + 8 * (lane % 4);
    batch = at.batch;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int n = row + 8 * r - p.token_offset;
      inside[r] = n >= 0 && n < p.rows;
    }
  }
};

template <class T>
__device__ __forceinline__ T* plane_row(const GemmOPlane& plane, int batch, int row) {
  return static_cast<T*>(plane.data) + batch * plane.batch_stride + row * plane.row_stride;
}
template <class T>
__device__ __forceinline__ T* residual_row(const GemmOArgs& p, int batch, int row) {
  return static_cast<T*>(p.residual) + batch * p.residual_batch_stride +
         (row - p.token_offset) * p.residual_row_stride;
}

// A row of each thread on its way from memory.
struct GemmORow {
  uint4 part[kGemmOGroups];
};

// Row r of the m-th tensor that the epilogue reads: the planes in order, then the residual. Null
// past the end and outside the segment.
template <class T>
__device__ __forceinline__ const T* input_row(const GemmOArgs& p, const GemmOPlace& at, int m,
                                              int r) {
  if (!at.inside[r]) return nullptr;
  const int row = at.row + 8 * r;
  if (m < p.num_read) return plane_row<T>(p.planes[m], at.batch, row) + at.column;
  if (m == p.num_read && p.residual) return residual_row<T>(p, at.batch, row) + at.column;
  return nullptr;
}

template <class T>
__device__ __forceinline__ void start_part(const GemmOArgs& p, const GemmOPlace& at, const T* row,
                                           int g, GemmORow& next) {
  if (row && at.column + 32 * g < p.width) {
    next.part[g] = *reinterpret_cast<const uint4*>(row + 32 * g);
  }
}

template <class T>
__device__ __forceinline__ void start_inputs(const GemmOArgs& p, const GemmOPlace& at,
                                             GemmORow& next) {
  const T* row = input_row<T>(p, at, 0, 0);
#pragma unroll
  for (int g = 0; g < kGemmOGroups; ++g) start_part(p, at, row, g, next);
}

// planes[m] of the update form; the sums stay as they are.
template <class T>
__device__ __forceinline__ void store_plane(const float (&d)[kGemmOSums], const GemmOArgs& p,
                                            const GemmOItem& item, const GemmOPlace& at) {
  const float* bias = item.bias + at.column - item.at.column;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (!at.inside[r]) continue;
    T* out = plane_row<T>(p.planes[item.at.plane], at.batch, at.row + 8 * r) + at.column;
#pragma unroll
    for (int g = 0; g < kGemmOGroups; ++g) {
      if (at.column + 32 * g >= p.width) continue;
      float v[8];
      load8(bias + 32 * g, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = d[accumulator(g, r, i)] + v[i];
      store8(out + 32 * g, v);
    }
  }
}

// Sums + bias, in place. `next` holds the first input row and afterwards that of the residual.
template <class T>
__device__ __forceinline__ void add_bias(float (&d)[kGemmOSums], const GemmOArgs& p,
                                         const GemmOItem& item, const GemmOPlace& at,
                                         GemmORow& next) {
  if (p.num_read == 0) {
    const float* bias = item.bias + at.column - item.at.column;
#pragma unroll
    for (int g = 0; g < kGemmOGroups; ++g) {
      float v[8];
      load8(bias + 32 * g, v);
#pragma unroll
      for (int i = 0; i < 16; ++i) d[accumulator(g, i / 8, i % 8)] += v[i % 8];
    }
    return;
  }
#pragma unroll 1
  for (int m = 0; m < p.num_read; ++m) {
    const float scale = p.planes[m].coefficient;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const T* row = input_row<T>(p, at, m + r, 1 - r);
#pragma unroll
      for (int g = 0; g < kGemmOGroups; ++g) {
        float v[8];
        unpack8<T>(next.part[g], v);
        start_part(p, at, row, g, next);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& sum = d[accumulator(g, r, i)];
          sum = fmaf(scale, v[i], sum);
        }
      }
    }
  }
}

// y = sums + bias, out = y, residual += gate * y.
template <class T>
__device__ __forceinline__ void store_result(float (&d)[kGemmOSums], const GemmOArgs& p,
                                             const GemmOItem& item, const GemmOPlace& at,
                                             GemmORow& next) {
  add_bias<T>(d, p, item, at, next);
  const float* gates = item.gate + at.column - item.at.column;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = at.row + 8 * r;
    T* out = static_cast<T*>(p.out) + at.batch * p.out_batch_stride +
             (row - p.token_offset) * p.out_row_stride + at.column;
    T* residual = residual_row<T>(p, at.batch, row) + at.column;
    const T* next_row = r == 0 ? input_row<T>(p, at, p.num_read, 1) : nullptr;
#pragma unroll
    for (int g = 0; g < kGemmOGroups; ++g) {
      const bool stored = at.inside[r] && at.column + 32 * g < p.width;
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = d[accumulator(g, r, i)];
      if (p.out && stored) store8(out + 32 * g, v);
      if (!p.residual) continue;
      float gate[8], sum[8];
      load8(gates + 32 * g, gate);
      unpack8<T>(next.part[g], sum);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] = fmaf(gate[i], v[i], sum[i]);
      if (stored) store8(residual + 32 * g, sum);
      if (r == 0) start_part(p, at, next_row, g, next);
    }
  }
}

}  // namespace flashomni::cuda::sm90

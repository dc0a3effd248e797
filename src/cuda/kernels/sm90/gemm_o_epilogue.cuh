// SPDX-License-Identifier: Apache-2.0
//
// What the sums of GEMM-O begin with, bias or a plane, and what becomes of them: bias plane of the
// update form, or result and gated residual. Planes and residual come through the ring of the k
// steps. Read from memory by the threads that add them, each cost as much as 5 k steps. To bring
// them into L2 before that gains nothing: it takes 0.8 us a tile from the other loads.
#pragma once

#include "cuda/kernels/sm90/gemm_o_schedule.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kGemmOGroups = kGemmOColumns / 32;
constexpr int kGemmOSums = kGemmOColumns / 2;

// The rows and columns of this thread in a tile: rows `row` and `row` + 8 of the joint sequence, in
// each group of 32 columns the 8 from column + 32 * group.
struct GemmOPlace {
  int row, column, end_column;
  int batch;
  bool inside[2];  // in the segment
  BoxParts parts;  // of a step of rows

  __device__ __forceinline__ GemmOPlace(const GemmOArgs& p, const GemmOTile& at, int half)
      : parts(half * kSlotRows + 16 * static_cast<int>(threadIdx.x / 32 % 4)) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = static_cast<int>(threadIdx.x / 32 % 4);
    row = at.row + half * kSlotRows + 16 * warp + lane / 4;
    column = at.column + 8 * (lane % 4);
    end_column = min(p.width, at.column + at.columns);
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

// Steps of rows hold 128 columns: two boxes of 64.
constexpr int kRowSteps = kGemmOColumns / 128;
constexpr int kRowBoxBytes = kGemmORows * kRowBytes;

// What a thread takes from such a step: its 8 columns in each of four groups of 32, in both rows.
struct GemmORows {
  uint4 part[4][2];
};

// Takes the next step of the ring.
template <class Steps>
__device__ __forceinline__ void take_rows(Steps& steps, const GemmOPlace& at, GemmORows& rows) {
  const uint8_t* memory = steps.open();
#pragma unroll
  for (int g = 0; g < 4; g += 2) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      at.parts.read(memory + g / 2 * kRowBoxBytes, r, rows.part[g][r], rows.part[g + 1][r]);
    }
  }
  steps.close();
}

// The sums begin with the bias.
__device__ __forceinline__ void start_with_bias(float (&d)[kGemmOSums], const GemmOItem& item,
                                                const GemmOPlace& at) {
  const float* bias = item.bias + at.column - item.at.column;
#pragma unroll
  for (int g = 0; g < kGemmOGroups; ++g) {
    float v[8];
    load8(bias + 32 * g, v);
#pragma unroll
    for (int i = 0; i < 16; ++i) d[accumulator(g, i / 8, i % 8)] = v[i % 8];
  }
}

// d = scale * plane, or += where it is not the first one.
template <class T, bool kFirst, class Steps>
__device__ __forceinline__ void take_plane(float (&d)[kGemmOSums], Steps& steps,
                                           const GemmOPlace& at, int row_steps, float scale) {
#pragma unroll
  for (int j = 0; j < kRowSteps; ++j) {
    if (j >= row_steps) break;
    GemmORows rows;
    take_rows(steps, at, rows);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float v[8];
      unpack8<T>(rows.part[k / 2][k % 2], v);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& sum = d[accumulator(4 * j + k / 2, k % 2, i)];
        sum = kFirst ? v[i] : fmaf(scale, v[i], sum);
      }
    }
  }
  if constexpr (kFirst) {
    if (scale == 1) return;
#pragma unroll
    for (int i = 0; i < kGemmOSums; ++i) d[i] *= scale;
  }
}

// All planes but the first, with which the sums began.
template <class T, class Steps>
__device__ __forceinline__ void add_planes(float (&d)[kGemmOSums], Steps& steps, const GemmOArgs& p,
                                           const GemmOPlace& at, int row_steps) {
#pragma unroll 1
  for (int m = 1; m < p.num_read; ++m) {
    take_plane<T, false>(d, steps, at, row_steps, p.planes[m].coefficient);
  }
}

// planes[m] of the update form; the sums stay as they are.
template <class T>
__device__ __forceinline__ void store_plane(const float (&d)[kGemmOSums], const GemmOArgs& p,
                                            const GemmOItem& item, const GemmOPlace& at) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (!at.inside[r]) continue;
    T* out = plane_row<T>(p.planes[item.at.plane], at.batch, at.row + 8 * r) + at.column;
#pragma unroll
    for (int g = 0; g < kGemmOGroups; ++g) {
      if (at.column + 32 * g >= at.end_column) continue;
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = d[accumulator(g, r, i)];
      store8(out + 32 * g, v);
    }
  }
}

// out = y = the sums, residual += gate * y.
template <class T, class Steps>
__device__ __forceinline__ void store_result(const float (&d)[kGemmOSums], Steps& steps,
                                             const GemmOArgs& p, const GemmOItem& item,
                                             const GemmOPlace& at, int row_steps) {
  if (p.out) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      T* out = static_cast<T*>(p.out) + at.batch * p.out_batch_stride +
               (at.row + 8 * r - p.token_offset) * p.out_row_stride + at.column;
#pragma unroll
      for (int g = 0; g < kGemmOGroups; ++g) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = d[accumulator(g, r, i)];
        if (at.inside[r] && at.column + 32 * g < at.end_column) store8_streaming(out + 32 * g, v);
      }
    }
  }
  if (!p.residual) return;
  const float* gates = item.gate + at.column - item.at.column;
#pragma unroll
  for (int j = 0; j < kRowSteps; ++j) {
    if (j >= row_steps) break;
    GemmORows rows;
    take_rows(steps, at, rows);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      T* residual = residual_row<T>(p, at.batch, at.row + 8 * r) + at.column;
#pragma unroll
      for (int g = 4 * j; g < 4 * j + 4; ++g) {
        float gate[8], sum[8];
        load8(gates + 32 * g, gate);
        unpack8<T>(rows.part[g % 4][r], sum);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] = fmaf(gate[i], d[accumulator(g, r, i)], sum[i]);
        if (at.inside[r] && at.column + 32 * g < at.end_column) store8(residual + 32 * g, sum);
      }
    }
  }
}

}  // namespace flashomni::cuda::sm90

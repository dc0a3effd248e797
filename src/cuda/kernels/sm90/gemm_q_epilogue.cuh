// SPDX-License-Identifier: Apache-2.0
//
// What GEMM-Q does with a product before it is stored: bias, RMSNorm over a head, rotation of
// adjacent channel pairs. A row of a head lies in the four lanes of a quad. Sums are worked on in
// place: there are no registers for a second copy.
#pragma once

#include "cuda/kernels/sm90/gemm_q_schedule.cuh"

namespace flashomni::cuda::sm90 {

__device__ __forceinline__ float4 load4(const float* p) {
  return __ldg(reinterpret_cast<const float4*>(p));
}

__device__ __forceinline__ void rotate(float& even, float& odd, float cos, float sin) {
  const float e = even, o = odd;
  even = e * cos - o * sin;
  odd = o * cos + e * sin;
}

// Adds the bias of a head; `squares`: of this thread's part of both rows, afterwards.
template <int kHeadDim, int kCount>
__device__ __forceinline__ void add_bias(float (&d)[kCount], int h, const float* bias,
                                         float (&squares)[2]) {
  squares[0] = squares[1] = 0;
#pragma unroll
  for (int g = 0; g < kHeadDim / 32; ++g) {
    float b[8];
    load8(bias + h * kHeadDim + 32 * g, b);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float& sum = d[accumulator(h * (kHeadDim / 32) + g, r, i)];
        sum += b[i];
        squares[r] += sum * sum;
      }
    }
  }
}

// A slot of 64 rows of one warpgroup. `rms_weight` is in shared memory; null: no RMSNorm.
template <class T, int kHeadDim, int kCount>
__device__ __forceinline__ void store_heads(float (&d)[kCount], const GemmQArgs& p,
                                            const GemmQItem& item, int slot,
                                            const float* rms_weight) {
  constexpr int kHeads = gemm_q_heads(kHeadDim);
  constexpr int kGroups = kHeadDim / 32;
  const GemmQSection& section = p.sections[item.section];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32 % 4);
  const int column = 8 * (lane % 4);
  const int first_row = item.row[slot] + 16 * warp + lane / 4;

  float squares[kHeads][2];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) add_bias<kHeadDim>(d, h, item.bias + column, squares[h]);

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first_row + 8 * r;
    const bool inside = row >= 0 && row < p.rows;
    // Of four pairs in each group of 32 columns; on their way while the norm is worked out. Without
    // rotation 1 and 0, which is exact and leaves no branch in the way of the stores.
    float4 cos[kGroups], sin[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      cos[g] = make_float4(1, 1, 1, 1);
      sin[g] = make_float4(0, 0, 0, 0);
    }
    if (section.cos && inside) {
      const float* row_cos = section.cos + row * section.cos_stride + column / 2;
      const float* row_sin = section.sin + row * section.sin_stride + column / 2;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        cos[g] = load4(row_cos + 16 * g);
        sin[g] = load4(row_sin + 16 * g);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (rms_weight) {
        float sum = squares[h][r];
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        sum += __shfl_xor_sync(kAllLanes, sum, 2);
        const float scale = rsqrtf(sum * (1.f / kHeadDim) + section.rms_eps);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          float weight[8];
          load8(rms_weight + 32 * g + column, weight);
#pragma unroll
          for (int i = 0; i < 8; ++i) d[accumulator(h * kGroups + g, r, i)] *= scale * weight[i];
        }
      }
      if (!inside || !(item.active >> (2 * slot + h) & 1)) continue;
      T* out = static_cast<T*>(section.out) + item.batch * section.out_batch_stride +
               row * section.out_row_stride + (item.head + h) * section.out_head_stride + column;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = d[accumulator(h * kGroups + g, r, i)];
        rotate(v[0], v[1], cos[g].x, sin[g].x);
        rotate(v[2], v[3], cos[g].y, sin[g].y);
        rotate(v[4], v[5], cos[g].z, sin[g].z);
        rotate(v[6], v[7], cos[g].w, sin[g].w);
        store8(out + 32 * g, v);
      }
    }
  }
}

}  // namespace flashomni::cuda::sm90

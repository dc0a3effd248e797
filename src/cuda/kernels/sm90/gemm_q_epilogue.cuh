// SPDX-License-Identifier: Apache-2.0
//
// What GEMM-Q adds to a product and does with it before it is stored: bias, RMSNorm over a head,
// rotation of adjacent channel pairs. A row of a head lies in the four lanes of a quad. Sums are
// worked on in place: there are no registers for a second copy.
#pragma once

#include "cuda/kernels/sm90/gemm_q_schedule.cuh"

namespace flashomni::cuda::sm90 {

// Cos and sin of the 64 rows of a slot are one step of the ring: the boxes of cos, then those of
// sin. Read from memory by the threads that rotate, they cost 5 % of a projection.
template <int kHeadDim>
constexpr int kRopeBoxes = (kHeadDim / 2 + kGemmQRopeColumns - 1) / kGemmQRopeColumns;
constexpr int kRopeBoxBytes = kSlotRows * kRowBytes;

__device__ __forceinline__ void rotate(float& even, float& odd, float cos, float sin) {
  const float e = even, o = odd;
  even = e * cos - o * sin;
  odd = o * cos + e * sin;
}

// The sums of a slot begin with the bias.
template <int kCount>
__device__ __forceinline__ void start_with_bias(float (&d)[kCount], const GemmQItem& item) {
  const float* bias = item.bias + 8 * (threadIdx.x % 4);
#pragma unroll
  for (int g = 0; g < kCount / 16; ++g) {
    float b[8];
    load8(bias + 32 * g, b);
#pragma unroll
    for (int i = 0; i < 16; ++i) d[accumulator(g, i / 8, i % 8)] = b[i % 8];
  }
}

// Of this thread's part of row r of a head.
template <int kHeadDim, int kCount>
__device__ __forceinline__ float sum_of_squares(const float (&d)[kCount], int h, int r) {
  float sum[4] = {};  // one after the other they would wait for each other
#pragma unroll
  for (int g = 0; g < kHeadDim / 32; ++g) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float v = d[accumulator(h * (kHeadDim / 32) + g, r, i)];
      sum[i % 4] += v * v;
    }
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// A slot of 64 rows of one warpgroup. `rms_weight` is in shared memory; null: no RMSNorm.
template <class T, int kHeadDim, class Steps, int kCount>
__device__ __forceinline__ void store_heads(float (&d)[kCount], Steps& steps, const GemmQArgs& p,
                                            const GemmQSection& section, const GemmQItem& item,
                                            int slot, const float* rms_weight) {
  constexpr int kHeads = gemm_q_heads(kHeadDim);
  constexpr int kGroups = kHeadDim / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32 % 4);
  const int column = 8 * (lane % 4);
  const int first_row = item.row[slot] + 16 * warp + lane / 4;

  constexpr int kBoxes = kRopeBoxes<kHeadDim>;
  const BoxParts parts(16 * warp);
  const uint8_t* rope = section.rope ? steps.open() : nullptr;

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first_row + 8 * r;
    const bool inside = row >= 0 && row < p.rows;
    // Of four pairs in each group of 32 columns. Without rotation 1 and 0, which is exact and
    // leaves no branch in the way of the stores.
    float4 cos[2 * kBoxes], sin[2 * kBoxes];
#pragma unroll
    for (int g = 0; g < 2 * kBoxes; ++g) {
      cos[g] = make_float4(1, 1, 1, 1);
      sin[g] = make_float4(0, 0, 0, 0);
    }
    if (section.rope) {
#pragma unroll
      for (int b = 0; b < kBoxes; ++b) {
        parts.read(rope + b * kRopeBoxBytes, r, cos[2 * b], cos[2 * b + 1]);
        parts.read(rope + (kBoxes + b) * kRopeBoxBytes, r, sin[2 * b], sin[2 * b + 1]);
      }
      if (r == 1) steps.close();
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (rms_weight) {
        float sum = sum_of_squares<kHeadDim>(d, h, r);
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

// SPDX-License-Identifier: Apache-2.0
//
// Online softmax of 16 rows of scores a warp, in the accumulator layout of matrix products: a
// thread holds scores of two rows, s[4j + 2r + e] is column 8j + 2 * (lane % 4) + e of row lane / 4
// + 8r. Four neighbouring threads share a row.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "cuda/kernels/common/barrier.cuh"

namespace flashomni::cuda {

// Volatile, so that it stays on its side of the waits for matrix products: the compiler would move
// exponentials behind the wait that they are there to fill.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <class T>
__device__ __forceinline__ uint32_t pack_pair(float lo, float hi);
template <>
__device__ __forceinline__ uint32_t pack_pair<__nv_bfloat16>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <>
__device__ __forceinline__ uint32_t pack_pair<__half>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

// Keeps the computation of x before what follows: a store to shared memory that never happens (x is
// not negative) but would need x. Without it ptxas moves exponentials behind the wait for the
// matrix product that they are there to overlap.
__device__ __forceinline__ void pin(float x, void* shared) {
  asm volatile(
      "{ .reg .pred p; setp.lt.f32 p, %0, 0f00000000; @p st.shared.f32 [%1], %0; }" ::"f"(x),
      "r"(smem_address(shared))
      : "memory");
}

// Maximum and sum of the two rows of a thread. `max` is in units of raw scores and may lag behind
// the true maximum by kLag in the exponent, which spares most rescaling of the output: weights stay
// below 2^kLag and the final division removes the common factor.
struct SoftmaxRows {
  static constexpr float kLag = 8.f;
  float max[2];
  float sum[2];  // of this thread's columns only, until reduce()

  __device__ __forceinline__ void reduce() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 1);
      sum[r] += __shfl_xor_sync(0xffffffff, sum[r], 2);
    }
  }
};

// Leaves the columns [begin, end).
template <int kCount>
__device__ __forceinline__ void mask_columns(float (&s)[kCount], int begin, int end) {
  const int column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int c = 8 * j + column + (e & 1);
      if (c < begin || c >= end) s[4 * j + e] = -INFINITY;
    }
  }
}

template <int kCount>
__device__ __forceinline__ float row_max(const float (&s)[kCount], int r) {
  // Two chains: a single one is 32 dependent instructions long.
  float a = fmaxf(s[2 * r], s[2 * r + 1]);
  float b = fmaxf(s[4 + 2 * r], s[4 + 2 * r + 1]);
#pragma unroll
  for (int j = 2; j < kCount / 4; j += 2) {
    a = fmaxf(a, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
    b = fmaxf(b, fmaxf(s[4 * j + 4 + 2 * r], s[4 * j + 4 + 2 * r + 1]));
  }
  a = fmaxf(a, b);
  a = fmaxf(a, __shfl_xor_sync(0xffffffff, a, 1));
  return fmaxf(a, __shfl_xor_sync(0xffffffff, a, 2));
}

// s = 2^(s * scale_log2 - max * scale_log2), and adds up the rows into `sum`.
template <int kCount>
__device__ __forceinline__ void exponentials(float (&s)[kCount], const float (&max)[2],
                                             float scale_log2, float (&sum)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float shift = -max[r] * scale_log2;
    float total = 0;
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[4 * j + 2 * r + e];
        x = exp2_fast(fmaf(x, scale_log2, shift));
        total += x;
      }
    }
    sum[r] += total;
  }
}

// First tile of a query tile.
template <int kCount>
__device__ __forceinline__ void softmax_first(float (&s)[kCount], SoftmaxRows& rows,
                                              float scale_log2) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.max[r] = row_max(s, r);
    rows.sum[r] = 0;
  }
  exponentials(s, rows.max, scale_log2, rows.sum);
}

// Further tiles. True, the same in the whole warp: the output so far must be multiplied by alpha.
template <int kCount>
__device__ __forceinline__ bool softmax_next(float (&s)[kCount], SoftmaxRows& rows,
                                             float scale_log2, float (&alpha)[2]) {
  float seen[2];
  bool far = false;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    seen[r] = row_max(s, r);
    far = far || (seen[r] - rows.max[r]) * scale_log2 > SoftmaxRows::kLag;
  }
  const bool rescale = __any_sync(0xffffffff, far);
  if (rescale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float max = fmaxf(rows.max[r], seen[r]);
      alpha[r] = exp2_fast((rows.max[r] - max) * scale_log2);
      rows.max[r] = max;
      rows.sum[r] *= alpha[r];
    }
  }
  exponentials(s, rows.max, scale_log2, rows.sum);
  return rescale;
}

template <int kCount>
__device__ __forceinline__ void scale_rows(float (&o)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= factor[(i >> 1) & 1];
}

// Accumulator layout of the weights is operand layout once packed.
template <class T, int kSteps>
__device__ __forceinline__ void pack_weights(const float (&s)[8 * kSteps],
                                             uint32_t (&p)[kSteps][4]) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) p[i][k] = pack_pair<T>(s[8 * i + 2 * k], s[8 * i + 2 * k + 1]);
  }
}

}  // namespace flashomni::cuda

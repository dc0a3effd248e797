// SPDX-License-Identifier: Apache-2.0
//
// Elements of f32, bf16 and f16 tensors, read and written as floats, one or a 16-byte vector at a
// time. Kernels that wait for memory anyway take the element type as an argument and branch on it,
// the same way for all threads; the others are templates.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "flashomni/types.h"

namespace flashomni::cuda {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ void from_float(float x, float& out) {
  out = x;
}
__device__ __forceinline__ void from_float(float x, __nv_bfloat16& out) {
  out = __float2bfloat16_rn(x);
}
__device__ __forceinline__ void from_float(float x, __half& out) {
  out = __float2half_rn(x);
}

// kCount elements from p on; more than one: at a multiple of 16 bytes, and kCount elements are a
// multiple of 16 bytes.
template <int kCount, class T>
__device__ __forceinline__ void load_elements(const T* p, float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    v[0] = to_float(*p);
  } else {
    constexpr int kVector = 16 / sizeof(T);
    static_assert(kCount % kVector == 0);
#pragma unroll
    for (int i = 0; i < kCount; i += kVector) {
      const uint4 raw = *reinterpret_cast<const uint4*>(p + i);
      T x[kVector];
      memcpy(x, &raw, sizeof(raw));
#pragma unroll
      for (int e = 0; e < kVector; ++e) v[i + e] = to_float(x[e]);
    }
  }
}

template <int kCount, class T>
__device__ __forceinline__ void store_elements(T* p, const float (&v)[kCount]) {
  if constexpr (kCount == 1) {
    from_float(v[0], *p);
  } else {
    constexpr int kVector = 16 / sizeof(T);
    static_assert(kCount % kVector == 0);
#pragma unroll
    for (int i = 0; i < kCount; i += kVector) {
      T x[kVector];
#pragma unroll
      for (int e = 0; e < kVector; ++e) from_float(v[i + e], x[e]);
      uint4 raw;
      memcpy(&raw, x, sizeof(raw));
      *reinterpret_cast<uint4*>(p + i) = raw;
    }
  }
}

// Calls f with a pointer of the element type. REQUIRES: f32, bf16 or f16.
template <class F>
__device__ __forceinline__ void with_elements(void* data, DType dtype, F&& f) {
  if (dtype == DType::kBF16) {
    f(static_cast<__nv_bfloat16*>(data));
  } else if (dtype == DType::kF16) {
    f(static_cast<__half*>(data));
  } else {
    f(static_cast<float*>(data));
  }
}

template <int kCount>
__device__ __forceinline__ void load_elements(void* data, DType dtype, int64_t at,
                                              float (&v)[kCount]) {
  with_elements(data, dtype, [&](auto* p) { load_elements<kCount>(p + at, v); });
}
template <int kCount>
__device__ __forceinline__ void store_elements(void* data, DType dtype, int64_t at,
                                               const float (&v)[kCount]) {
  with_elements(data, dtype, [&](auto* p) { store_elements<kCount>(p + at, v); });
}

// x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
__device__ __forceinline__ float gelu_tanh(float x) {
  const float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.f + tanhf(inner));
}
__device__ __forceinline__ float silu(float x) {
  return x / (1.f + expf(-x));
}

}  // namespace flashomni::cuda

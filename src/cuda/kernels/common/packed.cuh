// SPDX-License-Identifier: Apache-2.0
//
// What the epilogues of matrix products store and add: 8 neighbouring results of one row, 16 bytes
// of 16-bit values. A thread of a product holds 8 neighbours if the columns of every 32 are laid
// out for it: row 8j + 2q + e of B in shared memory is column 8q + 2j + e of the result.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace flashomni::cuda {

template <class T>
struct Packed;
template <>
struct Packed<__nv_bfloat16> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
  }
  static __device__ __forceinline__ float low(uint32_t bits) { return __uint_as_float(bits << 16); }
  static __device__ __forceinline__ float high(uint32_t bits) {
    return __uint_as_float(bits & 0xffff0000u);
  }
  static __device__ __forceinline__ float round(float v) { return low(pack(v, 0)); }
};
template <>
struct Packed<__half> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
  }
  static __device__ __forceinline__ float low(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
  }
  static __device__ __forceinline__ float high(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(bits >> 16)));
  }
  static __device__ __forceinline__ float round(float v) { return low(pack(v, 0)); }
};

template <class T>
__device__ __forceinline__ uint4 pack8(const float (&v)[8]) {
  return make_uint4(Packed<T>::pack(v[0], v[1]), Packed<T>::pack(v[2], v[3]),
                    Packed<T>::pack(v[4], v[5]), Packed<T>::pack(v[6], v[7]));
}

template <class T>
__device__ __forceinline__ void store8(T* p, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(p) = pack8<T>(v);
}
// For what should not push the operands out of L2.
template <class T>
__device__ __forceinline__ void store8_streaming(T* p, const float (&v)[8]) {
  __stcs(reinterpret_cast<uint4*>(p), pack8<T>(v));
}

template <class T>
__device__ __forceinline__ void unpack8(const uint4& bits, float (&v)[8]) {
  v[0] = Packed<T>::low(bits.x), v[1] = Packed<T>::high(bits.x);
  v[2] = Packed<T>::low(bits.y), v[3] = Packed<T>::high(bits.y);
  v[4] = Packed<T>::low(bits.z), v[5] = Packed<T>::high(bits.z);
  v[6] = Packed<T>::low(bits.w), v[7] = Packed<T>::high(bits.w);
}

// Which of a thread's accumulators is column 32 * group + 8 * (lane % 4) + i of row lane / 4 + 8 *
// r (of the warp's 16 rows).
__device__ __forceinline__ constexpr int accumulator(int group, int r, int i) {
  return 16 * group + 4 * (i / 2) + 2 * r + i % 2;
}

__device__ __forceinline__ void load8(const float* p, float (&v)[8]) {
  const float4 low = *reinterpret_cast<const float4*>(p);
  const float4 high = *reinterpret_cast<const float4*>(p + 4);
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

}  // namespace flashomni::cuda

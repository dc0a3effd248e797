// SPDX-License-Identifier: Apache-2.0
//
// Sums, extrema and prefix sums over the threads of a CTA, in an order that depends on nothing but
// the number of threads. Every thread of the CTA calls them; `scratch` is shared memory for
// kBlockScratch values, free again when the call returns.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashomni::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kBlockScratch = 33;  // a value a warp and the total

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Over groups of kLanes neighbouring lanes (a power of two); every lane gets the same bits.
template <int kLanes = kWarp, class T, class Op>
__device__ __forceinline__ T warp_reduce(T v, Op op) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, step));
  return v;
}

// The threads of the CTA must be a multiple of 32.
template <class T, class Op>
__device__ T block_reduce(T v, T identity, Op op, T* scratch) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  v = warp_reduce(v, op);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    T w = lane < static_cast<int>(blockDim.x) / kWarp ? scratch[lane] : identity;
    w = warp_reduce(w, op);
    if (lane == 0) scratch[kBlockScratch - 1] = w;
  }
  __syncthreads();
  const T result = scratch[kBlockScratch - 1];
  __syncthreads();
  return result;
}

template <class T>
__device__ __forceinline__ T warp_inclusive_sum(T v) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const T before = __shfl_up_sync(kAllLanes, v, step);
    if (lane >= step) v += before;
  }
  return v;
}

// The sum of the values of all threads before this one; `total` is that of all.
template <class T>
__device__ T block_exclusive_sum(T v, T* scratch, T& total) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const T inclusive = warp_inclusive_sum(v);
  if (lane == kWarp - 1) scratch[warp] = inclusive;
  __syncthreads();
  if (warp == 0) {
    const T w = lane < warps ? scratch[lane] : T{0};
    const T sum = warp_inclusive_sum(w);
    if (lane < warps) scratch[lane] = sum - w;
    if (lane == kWarp - 1) scratch[kBlockScratch - 1] = sum;
  }
  __syncthreads();
  const T result = scratch[warp] + (inclusive - v);
  total = scratch[kBlockScratch - 1];
  __syncthreads();
  return result;
}

}  // namespace flashomni::cuda

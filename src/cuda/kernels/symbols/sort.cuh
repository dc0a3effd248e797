// SPDX-License-Identifier: Apache-2.0
//
// Sorting, in shared memory, of the entries of a distribution, and where its running sum passes a
// limit.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/block.cuh"

namespace flashomni::cuda {

// Ascending order of unsigned integers is that of the floats. -0 counts as 0.
__device__ __forceinline__ uint32_t ordered_bits(float x) {
  const uint32_t bits = __float_as_uint(x + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float from_ordered_bits(uint32_t bits) {
  return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

// Bitonic sort, ascending, of a power of two of at least 64 keys. Exchanges over less than a warp's
// 64 neighbours need no CTA barrier. The keys are complete at the call and sorted for all threads
// after it. The threads of the CTA are a multiple of 32.
template <class Key>
__device__ void sort_keys(Key* keys, int n) {
  const int pairs = n / 2;
  __syncthreads();
  for (int size = 2; size <= n; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      for (int t = threadIdx.x; t < pairs; t += blockDim.x) {
        const int i = 2 * t - (t & (step - 1));
        const Key a = keys[i], b = keys[i + step];
        const bool ascending = (i & size) == 0;
        if ((b < a) == ascending) {
          keys[i] = b;
          keys[i + step] = a;
        }
      }
      // The next exchange: of this step halved, or of the next size. Both stay inside the 64 keys
      // of a warp's 32 pairs if this step and the next one do.
      const int next = step > 1 ? step / 2 : size;
      if (step > kWarp || next > kWarp) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  __syncthreads();
}

// The first place in sorted order whose running sum `stop` says to stop at, n if none. weight(r) is
// the r-th weight, up to one common factor that makes their sum 1; stop(sum, r) takes the sum of
// the weights up to and with the r-th one.
template <class Weight, class Stop>
__device__ int first_stop(int n, const Weight& weight, const Stop& stop, double* scratch,
                          int* int_scratch) {
  const int threads = blockDim.x;
  const int each = (n + threads - 1) / threads;
  const int begin = min(n, static_cast<int>(threadIdx.x) * each), end = min(n, begin + each);
  double own = 0;
  for (int r = begin; r < end; ++r) own += weight(r);
  double total;
  double sum = block_exclusive_sum(own, scratch, total);
  int first = n;
  for (int r = begin; r < end && first == n; ++r) {
    sum += weight(r);
    if (stop(sum / total, r)) first = r;
  }
  return block_reduce(first, n, Min{}, int_scratch);
}

}  // namespace flashomni::cuda

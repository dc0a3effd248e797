// SPDX-License-Identifier: Apache-2.0
//
// The set bits of a row.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/attention_list.cuh"

namespace flashomni::cuda::sm90 {

// A value that is the same in all lanes, in a uniform register, where descriptors of matrix
// products must be made: the compiler does not always see it, and then moves every one of them
// there.
__device__ __forceinline__ int uniform(int x) {
  return static_cast<int>(__reduce_max_sync(0xffffffff, static_cast<unsigned>(x)));
}

// Set bits of up to 32 words, one a lane, highest first. All lanes of a warp take part.
class RowBits {
 public:
  __device__ __forceinline__ void load(uint64_t word) {
    word_ = word;
    left_ = __ballot_sync(0xffffffff, word != 0);
  }

  __device__ __forceinline__ void skip(int count) {
    const int lane = threadIdx.x % 32;
    const int own = __popcll(word_);
    int from_top = own;  // set bits of this lane and those above
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int other = __shfl_down_sync(0xffffffff, from_top, d);
      if (lane + d < 32) from_top += other;
    }
    int clear = count - (from_top - own);
    if (clear >= own) {
      word_ = 0;
    } else {
      for (; clear > 0; --clear) word_ ^= 1ull << (63 - __clzll(static_cast<long long>(word_)));
    }
    left_ = __ballot_sync(0xffffffff, word_ != 0);
  }

  // REQUIRES a set bit.
  __device__ __forceinline__ int next() {
    const int lane = 31 - __clz(static_cast<int>(left_));
    uint64_t word = __shfl_sync(0xffffffff, word_, lane);
    const int bit = 63 - __clzll(static_cast<long long>(word));
    word ^= 1ull << bit;
    if (static_cast<int>(threadIdx.x % 32) == lane) word_ = word;
    if (word == 0) left_ ^= 1u << lane;
    return 64 * lane + bit;
  }

 private:
  uint64_t word_ = 0;
  uint32_t left_ = 0;
};

}  // namespace flashomni::cuda::sm90

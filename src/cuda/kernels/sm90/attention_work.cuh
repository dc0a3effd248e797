// SPDX-License-Identifier: Apache-2.0
//
// The list of one CTA: from the plan, or worked out for a dense call. Producer and consumers walk
// the same list, each by itself.
#pragma once

#include <cstdint>

#include "cuda/kernels/sm90/attention_params.h"

namespace flashomni::cuda::sm90 {

// A value that is the same in all lanes, in a uniform register, where descriptors of matrix
// products must be made: the compiler does not always see it, and then moves every one of them
// there.
__device__ __forceinline__ int uniform(int x) {
  return static_cast<int>(__reduce_max_sync(0xffffffff, static_cast<unsigned>(x)));
}

class WorkList {
 public:
  __device__ __forceinline__ WorkList(const AttentionArgs& args, int cta, int grid)
      : args_(args), cta_(cta), grid_(grid) {
    if (args.work) {
      begin_ = args.offsets[cta];
      size_ = args.offsets[cta + 1] - begin_;
      return;
    }
    const int n = args.num_kv_blocks;
    const int rest = args.tiles - args.rounds * grid;
    total_ = rest * n;
    lo_ = bound(cta);
    hi_ = bound(cta + 1);
    partial_ = lo_ < hi_ && lo_ % n != 0;
    const int whole_from = partial_ ? (lo_ / n + 1) * n : lo_;
    size_ =
        (partial_ ? 1 : 0) + args.rounds + (hi_ > whole_from ? (hi_ - whole_from + n - 1) / n : 0);
  }

  __device__ __forceinline__ int size() const { return size_; }

  __device__ __forceinline__ AttentionWork at(int index) const {
    if (args_.work) {
      const int4* from = reinterpret_cast<const int4*>(args_.work + begin_ + index);
      const int4 a = __ldg(from);
      return {a.x, a.y, a.z, a.w, __ldg(reinterpret_cast<const int32_t*>(from + 1)), {}};
    }
    const int n = args_.num_kv_blocks;
    const int first_split = args_.rounds * grid_;
    if (partial_) {
      if (index == 0) {
        const int end = (lo_ / n + 1) * n;
        return {first_split + lo_ / n,   -1, lo_ % n, (end < hi_ ? end : hi_) - lo_,
                AttentionWork::kPartial, {}};
      }
      --index;
    }
    if (index < args_.rounds) return {index * grid_ + cta_, -1, 0, n, AttentionWork::kWhole, {}};
    const int from = (partial_ ? (lo_ / n + 1) * n : lo_) + (index - args_.rounds) * n;
    const int count = from + n <= hi_ ? n : hi_ - from;
    int merge = 0;
    if (count < n) {
      do ++merge;
      while (bound(cta_ + merge + 1) < from + n);
    }
    return {first_split + from / n, -1, 0, count, merge, {}};
  }

 private:
  // First kv block, of those of all cut tiles laid end to end, of this CTA.
  __device__ __forceinline__ int bound(int cta) const {
    const int ctas = args_.split_ctas;
    if (ctas == 0) return 0;
    return cta >= ctas ? total_ : static_cast<int>(static_cast<int64_t>(cta) * total_ / ctas);
  }

  const AttentionArgs& args_;
  int cta_, grid_;
  int begin_ = 0, size_ = 0;
  int total_ = 0, lo_ = 0, hi_ = 0;
  bool partial_ = false;
};

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

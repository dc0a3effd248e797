// SPDX-License-Identifier: Apache-2.0
//
// The list of one CTA, and where its entries lie.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/attention_call.h"

namespace flashomni::cuda {

class WorkList {
 public:
  __device__ __forceinline__ WorkList(const AttentionCall& call, int cta)
      : first_(call.work + call.offsets[cta]), size_(call.offsets[cta + 1] - call.offsets[cta]) {}

  __device__ __forceinline__ int size() const { return size_; }

  __device__ __forceinline__ AttentionWork at(int index) const {
    const int4* from = reinterpret_cast<const int4*>(first_ + index);
    const int4 a = __ldg(from);
    return {a.x, a.y, a.z, a.w, __ldg(reinterpret_cast<const int32_t*>(from + 1)), {}};
  }

 private:
  const AttentionWork* first_;
  int size_;
};

// Sequence, head and batch of a row of S_c.
struct RowPlace {
  int block, head, batch;
  __device__ __forceinline__ RowPlace(const AttentionCall& call, int row) {
    block = row % call.num_q_blocks;
    const int group = row / call.num_q_blocks;
    head = group % call.heads;
    batch = group / call.heads;
  }
};

}  // namespace flashomni::cuda

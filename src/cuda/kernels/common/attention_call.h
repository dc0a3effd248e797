// SPDX-License-Identifier: Apache-2.0
//
// What the attention kernels of all architectures are launched with; each adds how it reaches the
// four tensors.
#pragma once

#include <cstdint>

#include "cuda/attention_plan.h"

namespace flashomni::cuda {

struct AttentionCall {
  const uint64_t* s;  // S_s words; null: all ones
  int32_t s_words;
  // Of the plan.
  const int32_t* offsets;
  const AttentionWork* work;
  int32_t* flags;  // [2 * grid]: the slot of a CTA, or of (CTA, warpgroup), is full

  float* slots;  // partial results, see attention_slot_floats

  float* lse;  // null: not wanted
  int64_t lse_batch_stride, lse_head_stride;

  int32_t heads, q_tokens, kv_tokens, num_q_blocks, num_kv_blocks;
  float scale;       // of the scores
  float scale_log2;  // scale * log2(e)
};

// Floats of one CTA's slot: the sums of 128 rows, and in each of the four threads that share a row
// its maximum and its sum.
constexpr int64_t attention_slot_floats(int head_dim) {
  return int64_t{2} * 128 * (head_dim / 2 + 4);
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// What the sm_90a attention kernel is launched with, and which instances there are.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/attention_plan.h"
#include "flashomni/types.h"

namespace flashomni::cuda::sm90 {

struct AttentionArgs {
  // [chunk columns, tokens, chunks of head_dim, heads, batch] with the swizzle of the chunk.
  CUtensorMap q, k, v, out;

  const uint64_t* s;  // S_s words; null: all ones
  int32_t s_words;
  // Of the plan.
  const int32_t* offsets;
  const AttentionWork* work;
  int32_t* flags;  // [2 * grid]: the slot of (CTA, warpgroup) is full

  float* slots;  // partial results, see attention_slot_floats

  float* lse;  // null: not wanted
  int64_t lse_batch_stride, lse_head_stride;

  int32_t heads, q_tokens, kv_tokens, num_q_blocks, num_kv_blocks;
  float scale;       // of the scores
  float scale_log2;  // scale * log2(e)
};

// Floats of one CTA's slot: per warpgroup and thread its accumulators, two maxima and two sums.
constexpr int64_t attention_slot_floats(int head_dim) {
  return int64_t{2} * 128 * (head_dim / 2 + 4);
}

// Launches on `grid` CTAs. False when there is no such instance: head_dim 64, 96 or 128, bf16 or
// f16, blocks of 64 or 128.
bool launch_attention(const AttentionArgs& args, DType dtype, int head_dim, int block_q,
                      int block_kv, int grid, cudaStream_t stream, cudaError_t& error);

}  // namespace flashomni::cuda::sm90

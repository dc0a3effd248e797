// SPDX-License-Identifier: Apache-2.0
//
// What the sm_90a attention kernel is launched with, and which instances there are.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "cuda/kernels/common/attention_call.h"
#include "flashomni/types.h"

namespace flashomni::cuda::sm90 {

struct AttentionArgs : AttentionCall {
  // [chunk columns, tokens, chunks of head_dim, heads, batch] with the swizzle of the chunk.
  CUtensorMap q, k, v, out;
};

// Launches on `grid` CTAs. False when there is no such instance: head_dim 64, 96 or 128, bf16 or
// f16, blocks of 64 or 128.
bool launch_attention(const AttentionArgs& args, DType dtype, int head_dim, int block_q,
                      int block_kv, int grid, cudaStream_t stream, cudaError_t& error);

}  // namespace flashomni::cuda::sm90

// SPDX-License-Identifier: Apache-2.0
//
// The instances of the sm_90a attention kernel, one source file an element type.
#pragma once

#include "cuda/kernels/sm90/attention_params.h"

namespace flashomni::cuda::sm90 {

bool launch_attention_bf16(const AttentionArgs& args, int head_dim, int block_q, int block_kv,
                           int grid, cudaStream_t stream, cudaError_t& error);
bool launch_attention_f16(const AttentionArgs& args, int head_dim, int block_q, int block_kv,
                          int grid, cudaStream_t stream, cudaError_t& error);

}  // namespace flashomni::cuda::sm90

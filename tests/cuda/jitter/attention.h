// SPDX-License-Identifier: Apache-2.0
//
// The attention kernel of sm_90a with warps that sleep at pseudo-random places.
#pragma once

#include "cuda/kernels/sm90/attention_params.h"

namespace flashomni::testkit {

// For bf16 and head_dim 128; block sizes as the product's.
cudaError_t launch_jittered_attention(const cuda::sm90::AttentionArgs& args, int block_q,
                                      int block_kv, int grid, cudaStream_t stream);

}  // namespace flashomni::testkit

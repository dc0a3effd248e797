// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/sm90/attention_instances.h"
#include "cuda/kernels/sm90/attention_launch.cuh"

namespace flashomni::cuda::sm90 {

bool launch_attention_bf16(const AttentionArgs& args, int head_dim, int block_q, int block_kv,
                           int grid, cudaStream_t stream, cudaError_t& error) {
  return launch_head_dim<__nv_bfloat16, Steady>(args, head_dim, block_q, block_kv, grid, stream,
                                                error);
}

}  // namespace flashomni::cuda::sm90

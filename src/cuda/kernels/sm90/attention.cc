// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/sm90/attention_instances.h"

namespace flashomni::cuda::sm90 {

bool launch_attention(const AttentionArgs& args, DType dtype, int head_dim, int block_q,
                      int block_kv, int grid, cudaStream_t stream, cudaError_t& error) {
  if (dtype == DType::kBF16) {
    return launch_attention_bf16(args, head_dim, block_q, block_kv, grid, stream, error);
  }
  return launch_attention_f16(args, head_dim, block_q, block_kv, grid, stream, error);
}

}  // namespace flashomni::cuda::sm90

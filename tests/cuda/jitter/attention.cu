// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/sm90/attention_launch.cuh"
#include "tests/cuda/jitter/attention.h"

namespace flashomni::testkit {

cudaError_t launch_jittered_attention(const cuda::sm90::AttentionArgs& args, int block_q,
                                      int block_kv, int grid, cudaStream_t stream) {
  return cuda::sm90::launch_blocks<__nv_bfloat16, 128, cuda::Jitter>(args, block_q, block_kv, grid,
                                                                     stream);
}

}  // namespace flashomni::testkit

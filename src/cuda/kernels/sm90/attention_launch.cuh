// SPDX-License-Identifier: Apache-2.0
//
// Launch of the instances of the attention kernel of one element type.
#pragma once

#include "cuda/kernels/sm90/attention_kernel.cuh"

namespace flashomni::cuda::sm90 {

template <class T, int kHeadDim, int kBlockKv, bool kPaired, class Pace>
cudaError_t launch_instance(const AttentionArgs& args, int grid, cudaStream_t stream) {
  constexpr int kShared = AttentionLayout<kHeadDim>::kAllocated;
  const auto kernel = attention_kernel<T, kHeadDim, kBlockKv, kPaired, Pace>;
  // For the current device, so every time: it costs the host less than the launch.
  const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (ready != cudaSuccess) return ready;
  return launch_chained(kernel, static_cast<unsigned>(grid), kAttentionThreads, kShared, stream,
                        args);
}

template <class T, int kHeadDim, class Pace>
cudaError_t launch_blocks(const AttentionArgs& args, int block_q, int block_kv, int grid,
                          cudaStream_t stream) {
  if (block_q == 64) {
    return block_kv == 64 ? launch_instance<T, kHeadDim, 64, true, Pace>(args, grid, stream)
                          : launch_instance<T, kHeadDim, 128, true, Pace>(args, grid, stream);
  }
  return block_kv == 64 ? launch_instance<T, kHeadDim, 64, false, Pace>(args, grid, stream)
                        : launch_instance<T, kHeadDim, 128, false, Pace>(args, grid, stream);
}

// False: no instance for this head size.
template <class T, class Pace>
bool launch_head_dim(const AttentionArgs& args, int head_dim, int block_q, int block_kv, int grid,
                     cudaStream_t stream, cudaError_t& error) {
  switch (head_dim) {
    case 64:
      error = launch_blocks<T, 64, Pace>(args, block_q, block_kv, grid, stream);
      return true;
    case 96:
      error = launch_blocks<T, 96, Pace>(args, block_q, block_kv, grid, stream);
      return true;
    case 128:
      error = launch_blocks<T, 128, Pace>(args, block_q, block_kv, grid, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace flashomni::cuda::sm90

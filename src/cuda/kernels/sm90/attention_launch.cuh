// SPDX-License-Identifier: Apache-2.0
//
// Launch of one instance of the attention kernel.
#pragma once

#include "cuda/kernels/sm90/attention_kernel.cuh"

namespace flashomni::cuda::sm90 {

template <class T, int kHeadDim, int kBlockKv>
cudaError_t launch_instance(const AttentionArgs& args, int grid, cudaStream_t stream) {
  constexpr int kShared = AttentionLayout<kHeadDim>::kAllocated;
  const auto kernel = attention_kernel<T, kHeadDim, kBlockKv>;
  static const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (ready != cudaSuccess) return ready;
  kernel<<<grid, kAttentionThreads, kShared, stream>>>(args);
  return cudaGetLastError();
}

// False: no instance for this head size.
template <class T>
bool launch_head_dim(const AttentionArgs& args, int head_dim, int block_kv, int grid,
                     cudaStream_t stream, cudaError_t& error) {
  const bool wide = block_kv == 128;
  switch (head_dim) {
    case 64:
      error = wide ? launch_instance<T, 64, 128>(args, grid, stream)
                   : launch_instance<T, 64, 64>(args, grid, stream);
      return true;
    case 96:
      error = wide ? launch_instance<T, 96, 128>(args, grid, stream)
                   : launch_instance<T, 96, 64>(args, grid, stream);
      return true;
    case 128:
      error = wide ? launch_instance<T, 128, 128>(args, grid, stream)
                   : launch_instance<T, 128, 64>(args, grid, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace flashomni::cuda::sm90

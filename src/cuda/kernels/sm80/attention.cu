// SPDX-License-Identifier: Apache-2.0
//
// The instances of the portable attention kernel.
#include "cuda/kernels/sm80/attention_kernel.cuh"

namespace flashomni::cuda::sm80 {
namespace {

template <class T, int kHeadDim>
cudaError_t launch_blocks(const AttentionArgs& args, int grid, cudaStream_t stream) {
  return args.starts ? launch_instance<T, kHeadDim, true>(args, grid, stream)
                     : launch_instance<T, kHeadDim, false>(args, grid, stream);
}

template <class T>
bool launch_head_dim(const AttentionArgs& args, int head_dim, int grid, cudaStream_t stream,
                     cudaError_t& error) {
  switch (head_dim) {
    case 64:
      error = launch_blocks<T, 64>(args, grid, stream);
      return true;
    case 96:
      error = launch_blocks<T, 96>(args, grid, stream);
      return true;
    case 128:
      error = launch_blocks<T, 128>(args, grid, stream);
      return true;
    default:
      return false;
  }
}

}  // namespace

bool launch_attention(const AttentionArgs& args, DType dtype, int head_dim, int grid,
                      cudaStream_t stream, cudaError_t& error) {
  return dtype == DType::kBF16 ? launch_head_dim<__nv_bfloat16>(args, head_dim, grid, stream, error)
                               : launch_head_dim<__half>(args, head_dim, grid, stream, error);
}

}  // namespace flashomni::cuda::sm80

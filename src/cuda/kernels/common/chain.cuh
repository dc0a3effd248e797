// SPDX-License-Identifier: Apache-2.0
//
// Short kernels that follow each other on a stream. A chained kernel is set up while the one before
// it still runs (programmatic dependent launch) and waits for it in chain_wait(), which hides most
// of what a launch costs. Rules: a chained kernel calls chain_wait() in every CTA before it reads
// or writes anything in global memory, so that waiting for one kernel is waiting for all before it;
// chain_release() comes early, since it only says that the next kernel's CTAs may take what room is
// left. Kernels that are launched the ordinary way may stand anywhere in between.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace flashomni::cuda {

// What the kernels before this one wrote is there.
__device__ __forceinline__ void chain_wait() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next chained kernel may be set up.
__device__ __forceinline__ void chain_release() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Only the machine code for sm_90a waits by itself; anything else is launched the ordinary way.
inline bool device_chains() {
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
}

// Launches a kernel that keeps the rules above.
template <class... Params, class... Args>
cudaError_t launch_chained(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                           cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = device_chains() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

}  // namespace flashomni::cuda

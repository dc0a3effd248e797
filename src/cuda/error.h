// SPDX-License-Identifier: Apache-2.0
//
// CUDA failures as Status values.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "flashomni/status.h"

namespace flashomni::cuda {

// `what` says what was being done ("launching attention").
inline Status cuda_status(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return ok_status();
  // Told here, so not again by the next launch.
  (void)cudaGetLastError();
  const StatusCode code =
      error == cudaErrorMemoryAllocation ? StatusCode::kOutOfMemory : StatusCode::kDeviceError;
  return {code, what + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")"};
}

// Of the launch just made; does not wait for it.
inline Status launch_status(const std::string& what) {
  return cuda_status(cudaGetLastError(), "launching " + what);
}

#define FO_CUDA(expr, what) FO_RETURN_IF_ERROR(::flashomni::cuda::cuda_status((expr), (what)))

}  // namespace flashomni::cuda

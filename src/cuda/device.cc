// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include "cuda/config.h"
#include "cuda/error.h"

namespace flashomni::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Status check_driver() {
  int driver = 0;
  int runtime = 0;
  FO_CUDA(cudaDriverGetVersion(&driver), "asking for the CUDA driver");
  FO_CUDA(cudaRuntimeGetVersion(&runtime), "asking for the CUDA runtime");
  if (driver == 0) return not_found("no CUDA driver on this machine, wanted one for an NVIDIA GPU");
  // Within a major version any driver runs any runtime.
  if (driver / 1000 < runtime / 1000) {
    return unsupported("the CUDA driver is for " + version_text(driver) + ", wanted one for " +
                       version_text(runtime / 1000 * 1000) + " or newer");
  }
  return ok_status();
}

}  // namespace

Result<DeviceInfo> find_device() {
  FO_RETURN_IF_ERROR(check_driver());
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return not_found("no CUDA device on this machine, or CUDA_VISIBLE_DEVICES hides it");
  }
  FO_CUDA(error, "counting CUDA devices");
  DeviceInfo info;
  FO_CUDA(cudaGetDevice(&info.index), "asking for the current CUDA device");
  cudaDeviceProp properties;
  FO_CUDA(cudaGetDeviceProperties(&properties, info.index), "asking for the CUDA device");
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.sms = properties.multiProcessorCount;
  info.memory_bytes = properties.totalGlobalMem;
  info.shared_bytes = properties.sharedMemPerBlockOptin;
  info.l2_bytes = static_cast<size_t>(properties.l2CacheSize);
  FO_RETURN_IF_ERROR(check_compute_capability(info.compute_capability()));
  return info;
}

}  // namespace flashomni::cuda

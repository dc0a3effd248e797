// SPDX-License-Identifier: Apache-2.0
#include "cuda/device_memory.h"

#include <algorithm>
#include <mutex>

#include "cuda/error.h"

namespace flashomni::cuda {
namespace {

void* runtime_allocate(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  (void)cudaGetLastError();
  return nullptr;
}

void runtime_release(void* memory) {
  cudaFree(memory);
}

struct Source {
  std::mutex mutex;
  DeviceMemory memory = {runtime_allocate, runtime_release};
};

Source& source() {
  static Source one;
  return one;
}

}  // namespace

void use_device_memory(const DeviceMemory& memory) {
  const std::scoped_lock lock(source().mutex);
  source().memory = memory;
}

bool device_memory_is_the_runtimes() {
  const std::scoped_lock lock(source().mutex);
  return source().memory.allocate == runtime_allocate;
}

Result<DevicePointer> allocate_device_memory(size_t bytes, const std::string& what) {
  DeviceMemory from;
  {
    const std::scoped_lock lock(source().mutex);
    from = source().memory;
  }
  void* memory = from.allocate(std::max<size_t>(1, bytes));
  if (!memory) {
    return out_of_memory(what + ": no " + std::to_string(bytes) + " bytes left on the GPU");
  }
  return DevicePointer(memory, ReleaseDeviceMemory{from.release});
}

}  // namespace flashomni::cuda

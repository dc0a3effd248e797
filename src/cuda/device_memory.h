// SPDX-License-Identifier: Apache-2.0
//
// Where this library's long-lived device memory comes from: buffers, packed weights, work lists. By
// itself from the CUDA runtime; a host with an allocator of its own (PyTorch keeps freed memory for
// itself, which the runtime then cannot give to others) has it taken from there.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "flashomni/status.h"

namespace flashomni::cuda {

struct DeviceMemory {
  // On the current device, aligned to 256 bytes, ready for work on any stream; null if there is
  // none left. Neither may throw.
  void* (*allocate)(size_t bytes);
  void (*release)(void* memory);
};

// For all allocations of this process from now on; what was allocated before is released as it was
// allocated.
void use_device_memory(const DeviceMemory& source);

struct ReleaseDeviceMemory {
  void (*release)(void*) = nullptr;
  void operator()(void* memory) const {
    if (memory) release(memory);
  }
};
using DevicePointer = std::unique_ptr<void, ReleaseDeviceMemory>;

// Whether the CUDA runtime's figures of free memory say what can still be allocated.
bool device_memory_is_the_runtimes();

// `bytes` may be 0. kOutOfMemory says `what` and how many bytes.
Result<DevicePointer> allocate_device_memory(size_t bytes, const std::string& what);

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// What the machine has: whether there is a GPU that this build can use, and its numbers.
#pragma once

#include <cstddef>
#include <string>

#include "flashomni/status.h"

namespace flashomni::cuda {

struct DeviceInfo {
  int index = 0;
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int sms = 0;
  size_t memory_bytes = 0;
  size_t shared_bytes = 0;  // most shared memory of one CTA
  size_t l2_bytes = 0;

  int compute_capability() const { return 10 * major + minor; }
};

// The device that this thread uses (CUDA_VISIBLE_DEVICES decides which that is). Says in words when
// there is no driver, an old one, no device, or one that is too old for the kernels of this build.
Result<DeviceInfo> find_device();

}  // namespace flashomni::cuda

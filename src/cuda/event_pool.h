// SPDX-License-Identifier: Apache-2.0
//
// Events that mark points in the work of streams; made as they are needed and used again.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "flashomni/status.h"

namespace flashomni::cuda {

class EventPool {
 public:
  EventPool() = default;
  ~EventPool();
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  // The number of an event recorded now.
  Result<int64_t> record(cudaStream_t stream);
  // REQUIRES: both have been reached.
  Result<double> seconds_between(int64_t from, int64_t to) const;
  void clear() { used_ = 0; }

 private:
  std::vector<cudaEvent_t> events_;
  size_t used_ = 0;
};

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
#include "cuda/event_pool.h"

#include "cuda/error.h"

namespace flashomni::cuda {

EventPool::~EventPool() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

Result<int64_t> EventPool::record(cudaStream_t stream) {
  if (used_ == events_.size()) {
    cudaEvent_t event = nullptr;
    FO_CUDA(cudaEventCreate(&event), "making an event");
    events_.push_back(event);
  }
  FO_CUDA(cudaEventRecord(events_[used_], stream), "recording an event");
  return static_cast<int64_t>(used_++);
}

Result<double> EventPool::seconds_between(int64_t from, int64_t to) const {
  const auto count = static_cast<int64_t>(used_);
  if (from < 0 || to < 0 || from >= count || to >= count) {
    return invalid_argument("marks " + std::to_string(from) + " and " + std::to_string(to) +
                            ", wanted two of the " + std::to_string(count) + " that were made");
  }
  float milliseconds = 0;
  FO_CUDA(cudaEventElapsedTime(&milliseconds, events_[static_cast<size_t>(from)],
                               events_[static_cast<size_t>(to)]),
          "reading the time between two events");
  return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace flashomni::cuda

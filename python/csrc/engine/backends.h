// SPDX-License-Identifier: Apache-2.0
//
// The backends that Python code shares: one for the CPU and one for each GPU, made on first use and
// kept for the life of the process. A backend may be used by one thread at a time, so that each
// comes with its lock.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "flashomni/backend.h"

namespace flashomni::python {

struct SharedBackend {
  std::unique_ptr<Backend> backend;
  std::mutex mutex;
};

// `device` is "cpu" or "cuda". `index` tells GPUs apart; for a GPU the caller has made it this
// thread's current device. Fails as make_backend does: what is missing is named.
Result<std::shared_ptr<SharedBackend>> shared_backend(const std::string& device, int index);

}  // namespace flashomni::python

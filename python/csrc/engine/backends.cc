// SPDX-License-Identifier: Apache-2.0
#include "python/csrc/engine/backends.h"

#include <map>
#include <utility>

namespace flashomni::python {

Result<std::shared_ptr<SharedBackend>> shared_backend(const std::string& device, int index) {
  // Never destroyed: GPU memory must not be freed while the interpreter goes down.
  static auto& made = *new std::map<std::pair<std::string, int>, std::shared_ptr<SharedBackend>>;
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  std::shared_ptr<SharedBackend>& entry = made[{device, index}];
  if (!entry) {
    FO_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend(device));
    entry = std::make_shared<SharedBackend>();
    entry->backend = std::move(backend);
  }
  return entry;
}

}  // namespace flashomni::python

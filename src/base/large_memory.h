// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

namespace flashomni {

// Memory for tensors: 64-byte aligned, from 2 MiB on in huge pages where the system gives them on
// request. A product over a large weight touches thousands of small pages, more than a processor
// remembers the addresses of. Uninitialised; null when there is none.
struct FreeMemory {
  void operator()(void* p) const;
};
using Memory = std::unique_ptr<void, FreeMemory>;
Memory allocate_memory(size_t bytes);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "base/large_memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace flashomni {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t align_up(size_t bytes, size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

void FreeMemory::operator()(void* p) const {
  std::free(p);
}

Memory allocate_memory(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  Memory memory(std::aligned_alloc(alignment, align_up(bytes > 0 ? bytes : 1, alignment)));
#ifdef MADV_HUGEPAGE
  // The last, partly used huge page stays in small ones. A refusal only costs speed.
  const size_t whole = bytes / kHugePage * kHugePage;
  if (memory && whole > 0) (void)madvise(memory.get(), whole, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace flashomni

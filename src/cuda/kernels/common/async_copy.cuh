// SPDX-License-Identifier: Apache-2.0
//
// Copies of 16 or 4 bytes from global to shared memory that a thread starts and later waits for
// (cp.async). They keep many loads under way without registers to hold them.
#pragma once

#include <cstdint>

namespace flashomni::cuda {

// Zeros instead if not `inside`: `from` is not read then. `to` is an address in shared memory.
__device__ __forceinline__ void async_copy_16(uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void async_copy_16(void* to, const void* from, bool inside) {
  async_copy_16(static_cast<uint32_t>(__cvta_generic_to_shared(to)), from, inside);
}

// The same for 4 bytes.
__device__ __forceinline__ void async_copy_4(void* to, const void* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(inside ? 4 : 0)
               : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void async_copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// All but the last kPending groups of this thread are done, and visible to it.
template <int kPending>
__device__ __forceinline__ void async_copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace flashomni::cuda

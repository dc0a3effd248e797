// SPDX-License-Identifier: Apache-2.0
//
// Around the warpgroup products: descriptors of operands in shared memory, ordering, register moves
// between warpgroups, and matrix moves between registers and shared memory.
//
// Accumulator layout of m64nN (fp32, thread t of 128, g = t/32 the warp, l = t%32): element d[4*j +
// 2*r
// + e] is row 16*g + l/4 + 8*r, column 8*j + 2*(l%4) + e. Packed to 16 bit in pairs, d[8*i .. 8*i +
// 7] are the four A registers of k16 step i.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/barrier.cuh"
#include "cuda/kernels/sm90/wgmma_shapes.cuh"

namespace flashomni::cuda {

enum class Swizzle : uint64_t { k128B = 1, k64B = 2, k32B = 3 };

// Descriptor of a matrix in shared memory; both offsets in bytes.
//   K-major:  rows of one swizzle width (128 B = 64 16-bit columns); stride = 8 rows (1024 for
//   k128B),
//             leading unused. One k16 step is 32 bytes further.
//   MN-major: leading = from one group of 64 columns to the next, stride = from 8 rows to the
//   next 8.
template <Swizzle kSwizzle>
__device__ __forceinline__ uint64_t matrix_descriptor(const void* p, uint32_t leading,
                                                      uint32_t stride) {
  const uint64_t start = (smem_address(p) & 0x3FFFF) >> 4;
  return start | (uint64_t(leading >> 4) << 16) | (uint64_t(stride >> 4) << 32) |
         (uint64_t(kSwizzle) << 62);
}

// Before the first product after registers or shared memory were written by this warpgroup.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// At most kPending committed groups are still running.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving reads and writes of d across this point.
template <int kCount>
__device__ __forceinline__ void wgmma_keep(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Registers of every thread of this warpgroup, a multiple of 8. The kernel needs __launch_bounds__
// (threads, 1), and the sum over its warpgroups must not exceed what it was launched with.
template <int kCount>
__device__ __forceinline__ void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8.
__device__ __forceinline__ void store_matrix_x4(void* row, uint32_t a, uint32_t b, uint32_t c,
                                                uint32_t d) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(smem_address(row)),
      "r"(a), "r"(b), "r"(c), "r"(d)
      : "memory");
}
__device__ __forceinline__ void load_matrix_x4(const void* row, uint32_t& a, uint32_t& b,
                                               uint32_t& c, uint32_t& d) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
               : "r"(smem_address(row))
               : "memory");
}

// True in one lane of a converged warp.
__device__ __forceinline__ bool elect_one() {
  uint32_t yes;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xFFFFFFFF; selp.u32 %0, 1, 0, p; }" : "=r"(yes));
  return yes != 0;
}

}  // namespace flashomni::cuda

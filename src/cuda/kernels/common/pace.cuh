// SPDX-License-Identifier: Apache-2.0
//
// How the roles of a warp-specialised kernel keep time. Kernels are instantiated with Steady; tests
// also with Jitter, which lets every warp sleep at pseudo-random places: whatever order the roles
// come in, the result must be the same bits.
#pragma once

#include <cstdint>

namespace flashomni::cuda {

struct Steady {
  static __device__ __forceinline__ void pause() {}
};

// Warps sleep up to 4 us at about every eighth call, all lanes together. For all lanes of a warp.
struct Jitter {
  static __device__ __forceinline__ void pause() {
    uint32_t x = static_cast<uint32_t>(clock64());
    x = (x ^ (blockIdx.x << 8) ^ (threadIdx.x / 32)) * 0x9e3779b1u;
    x ^= x >> 15;
    x *= 0x85ebca77u;
    x ^= x >> 13;
    x = __shfl_sync(0xffffffffu, x, 0);
    if (x % 8 == 0) __nanosleep(x >> 20);
    __syncwarp();
  }
};

}  // namespace flashomni::cuda

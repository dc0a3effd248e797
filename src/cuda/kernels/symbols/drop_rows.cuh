// SPDX-License-Identifier: Apache-2.0
//
// DROP_CDF over a distribution in shared memory without sorting it: every entry adds up what sorts
// before it, which needs no barrier. kLanes lanes share such a sum, over fixed places: sums never
// fall when an entry is added.
#pragma once

#include "cuda/kernels/common/block.cuh"

namespace flashomni::cuda {

constexpr int kLanes = 4;  // that share a sum

// Over the kLanes lanes of a group; all get the same.
__device__ __forceinline__ double group_sum(double x) {
  return warp_reduce<kLanes>(x, Add{});
}

// Calls drop(k) of every entry of the distribution `weight`, double [n] in shared memory, that the
// limit takes; never of the one that sorts last. The weights need not add up to 1.
template <class Drop>
__device__ void drop_counted(const double* weight, int n, double theta, const Drop& drop) {
  const int lane = threadIdx.x % kLanes;
  const int groups = blockDim.x / kLanes;
  for (int base = 0; base < n; base += groups) {  // the same for all threads
    const int k = min(base + static_cast<int>(threadIdx.x) / kLanes, n - 1);
    const double own = weight[k];
    double total = 0, up_to = 0;
    int before = 0;
#pragma unroll 4
    for (int m = lane; m < n; m += kLanes) {
      const double other = weight[m];
      const bool sooner = other < own || (other == own && m < k);
      total += other;
      up_to += sooner || m == k ? other : 0.0;
      before += sooner;
    }
    total = group_sum(total);
    up_to = group_sum(up_to);
    before = warp_reduce<kLanes>(before, Add{});
    const bool inside = base + static_cast<int>(threadIdx.x) / kLanes < n;
    if (inside && lane == 0 && !(up_to > theta * total) && before < n - 1) drop(k);
  }
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// What the sm_90a matrix products share: 384 threads of which one warp loads and two warpgroups
// multiply, a ring of steps, and a short ring of work items. A step is 64 columns of k, or rows
// that go into the sums in other ways: those come through the same ring, so that they are on their
// way while k is walked. Rows of A come in slots of 64, one m64 product each; rows of B are columns
// of the result.
//
// Both operands lie K-major with the 128-byte swizzle. The copy engine places the rows of every 32
// of B so that a thread's accumulators are neighbours in memory: row 8j + 2q + e of shared memory
// is column 8q + 2j + e of the result, which makes d[4j + 2r + e] of a thread with lane % 4 = q the
// columns 8q .. 8q + 7. Results therefore go from registers to memory 16 bytes at a time without a
// pass through shared memory, whatever rows a tile is cut to.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/barrier.cuh"
#include "cuda/kernels/common/packed.cuh"
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/gemm_args.h"
#include "cuda/kernels/sm90/wgmma.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kMathWarps = 8;
constexpr int kMathThreads = 32 * kMathWarps;
constexpr int kStages = 4;
constexpr int kItems = 4;  // work items that may be known at a time
constexpr int kRowBytes = 2 * kGemmBlockK;
constexpr int kSlotRows = kGemmQSlotRows;
constexpr int kSlotBytes = kSlotRows * kRowBytes;
constexpr unsigned kAllLanes = 0xffffffffu;

template <int kRowsA, int kRowsB>
struct alignas(1024) GemmStage {
  uint8_t a[kRowsA * kRowBytes];
  uint8_t b[kRowsB * kRowBytes];
};

template <int kRowsA, int kRowsB, class ItemType>
struct GemmShared {
  using Item = ItemType;
  static constexpr int kColumns = kRowsB;
  static constexpr int kBytesB = kRowsB * kRowBytes;

  GemmStage<kRowsA, kRowsB> stages[kStages];
  Item items[kItems];
  uint64_t full[kStages], empty[kStages];
  uint64_t item_full[kItems], item_empty[kItems];
};

// By one thread; then the CTA has to synchronise. Every lane of the warp that writes an item hands
// it over, and every thread that reads it gives it back: those that multiply and one warp that
// loads.
template <class Shared>
__device__ __forceinline__ void init_barriers(Shared& s) {
  for (int i = 0; i < kStages; ++i) {
    barrier_init(&s.full[i], 1);
    barrier_init(&s.empty[i], kMathWarps);
  }
  for (int i = 0; i < kItems; ++i) {
    barrier_init(&s.item_full[i], 32);
    barrier_init(&s.item_empty[i], kMathThreads + 32);
  }
  fence_barrier_init();
}

// A number that is the same in all lanes, such that the compiler knows it too.
__device__ __forceinline__ int uniform(int n) {
  return __reduce_max_sync(kAllLanes, n);
}
__device__ __forceinline__ uint64_t uniform(uint64_t n) {
  const uint64_t high = __reduce_or_sync(kAllLanes, static_cast<unsigned>(n >> 32));
  return high << 32 | __reduce_or_sync(kAllLanes, static_cast<unsigned>(n));
}

// The multiplying side of the ring, one a warpgroup: steps of k, each `kSlots` products of 64 x kN
// from the slots first, first + stride, ..., and steps that bring other rows (open, close). The
// accumulators start with what the epilogue would otherwise have to add.
//
// NOTE: in a loop of products, ring position and descriptors have to be values that the compiler
// knows to be the same in all threads, hence uniform() before and around it. Otherwise each product
// waits for their way to the uniform registers.
template <class T, class Shared, int kSlots>
class KSteps {
 public:
  static constexpr int kColumns = Shared::kColumns;

  __device__ __forceinline__ KSteps(Shared& shared, int first_slot, int slot_stride)
      : shared_(shared),
        first_a_(first_slot * (kSlotBytes >> 4)),
        slot_stride_(static_cast<uint32_t>(slot_stride) * (kSlotBytes >> 4)) {}

  // One step of k, of which the first 16 * kK16 columns count. kActive slots take part, and of B
  // the first kN rows.
  template <int kK16, int kActive, int kN = kColumns>
  __device__ __forceinline__ void multiply(float (&d)[kSlots][kColumns / 2]) {
    barrier_wait(&shared_.full[ring_.stage], ring_.phase);
    const auto& stage = shared_.stages[ring_.stage];
    const uint64_t a = matrix_descriptor<Swizzle::k128B>(stage.a, 16, 1024) + first_a_;
    const uint64_t b = matrix_descriptor<Swizzle::k128B>(stage.b, 16, 1024);
#pragma unroll
    for (int m = 0; m < kActive; ++m) wgmma_keep(d[m]);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kK16; ++k) {
#pragma unroll
      for (int m = 0; m < kActive; ++m) {
        auto& sums = reinterpret_cast<float(&)[kN / 2]>(d[m]);
        Wgmma<T, kN>::template ss<0>(sums, a + m * slot_stride_ + 2 * k, b + 2 * k, 1);
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (held_ >= 0) release(held_);
    held_ = ring_.stage;
    ring_.advance();
  }

  // n times one or more steps, to the end of their products. NOTE: the first time lies outside the
  // loop: where sums that were set enter a loop of products, ptxas runs the products one by one.
  template <int kActive, int kN = kColumns, class Step>
  __device__ __forceinline__ void multiply_all(float (&d)[kSlots][kColumns / 2], int n,
                                               Step&& step) {
    if (n <= 0) return;
    ring_.stage = uniform(ring_.stage);
    ring_.phase = static_cast<uint32_t>(uniform(static_cast<int>(ring_.phase)));
    first_a_ = uniform(first_a_);
    step();
    while (--n > 0) step();
    finish<kActive>(d);
  }
  template <int kActive, int kN = kColumns>
  __device__ __forceinline__ void multiply_all(float (&d)[kSlots][kColumns / 2], int n) {
    multiply_all<kActive, kN>(d, n, [&] { multiply<4, kActive, kN>(d); });
  }

  // Lets a step go by that this warpgroup does not need. A stage may be given back only after it
  // was filled: an earlier arrival would count for the phase before. REQUIRES: no products running.
  __device__ __forceinline__ void pass() {
    open();
    give_back();
  }

  // The memory of the next step, which is not one of k. REQUIRES: no products running.
  __device__ __forceinline__ const uint8_t* open() {
    barrier_wait(&shared_.full[ring_.stage], ring_.phase);
    return shared_.stages[ring_.stage].a;
  }
  // After the last read of it, by all threads. Ordinary reads and the copy engine's next write are
  // of different proxies: without the fence, reads behind a burst of stores got what the next step
  // loads, in one of twelve launches of an unlucky shape.
  __device__ __forceinline__ void close() {
    fence_async_proxy();
    give_back();
  }

 private:
  // Until all products are done.
  template <int kActive>
  __device__ __forceinline__ void finish(float (&d)[kSlots][kColumns / 2]) {
    wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < kActive; ++m) wgmma_keep(d[m]);
    if (held_ >= 0) release(held_);
    held_ = -1;
  }

  __device__ __forceinline__ void give_back() {
    __syncwarp();
    release(ring_.stage);
    ring_.advance();
  }
  __device__ __forceinline__ void release(int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(&shared_.empty[stage]);
  }

  Shared& shared_;
  int first_a_;  // of the first slot in A, in the units of descriptors
  const uint32_t slot_stride_;
  RingState<kStages> ring_;
  int held_ = -1;  // the stage of the products still running, -1: none
};

// The loading side: waits until the next stage is free. By a whole warp.
template <class Shared>
__device__ __forceinline__ void wait_free(Shared& s, const RingState<kStages>& ring) {
  barrier_wait(&s.empty[ring.stage], ring.phase ^ 1);
  __syncwarp();
}

// ---- rows that come through the ring: boxes of 128 bytes a row with the 128-byte swizzle

// Where a thread finds its 16-byte parts of a box: rows lane / 4 + 8 r of 16, parts lane % 4 and 4
// + lane % 4.
class BoxParts {
 public:
  // `row`: of this warp's first row in the box, a multiple of 8.
  __device__ __forceinline__ explicit BoxParts(int row) {
    const uint32_t lane = threadIdx.x % 32, r = lane / 4 % 8;
    // The two rows that eight lanes read at a time take their halves in opposite order: in the same
    // order they would want the same banks.
    swapped_ = r % 2 != 0;
    at_ = (static_cast<uint32_t>(row) + r) * kRowBytes + ((lane % 4 + (swapped_ ? 4 : 0)) ^ r) * 16;
  }
  template <class Vector>
  __device__ __forceinline__ void read(const uint8_t* box, int r, Vector& low, Vector& high) const {
    static_assert(sizeof(Vector) == 16);
    const Vector first = *reinterpret_cast<const Vector*>(box + r * 8 * kRowBytes + at_);
    const Vector second = *reinterpret_cast<const Vector*>(box + r * 8 * kRowBytes + (at_ ^ 64));
    low = select(swapped_, second, first);
    high = select(swapped_, first, second);
  }

 private:
  template <class Vector>
  static __device__ __forceinline__ Vector select(bool c, const Vector& a, const Vector& b) {
    Vector v;
    v.x = c ? a.x : b.x, v.y = c ? a.y : b.y, v.z = c ? a.z : b.z, v.w = c ? a.w : b.w;
    return v;
  }
  uint32_t at_;
  bool swapped_;
};

}  // namespace flashomni::cuda::sm90

// SPDX-License-Identifier: Apache-2.0
//
// What the sm_90a matrix products share: 384 threads of which one warp loads and two warpgroups
// multiply, a ring of k steps of 64 columns, and a short ring of work items. Rows of A come in
// slots of 64, one m64 product each; rows of B are columns of the result.
//
// Both operands lie K-major with the 128-byte swizzle. The copy engine places the rows of every 32
// of B so that a thread's accumulators are neighbours in memory: row 8j + 2q + e of shared memory
// is column 8q + 2j + e of the result, which makes d[4j + 2r + e] of a thread with lane % 4 = q the
// columns 8q .. 8q + 7. Results therefore go from registers to memory 16 bytes at a time without a
// pass through shared memory, whatever rows a tile is cut to.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/barrier.cuh"
#include "cuda/kernels/sm90/gemm_args.h"
#include "cuda/kernels/sm90/wgmma.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kMathWarps = 8;
constexpr int kMathThreads = 32 * kMathWarps;
constexpr int kStages = 4;
constexpr int kItems = 3;  // work items that may be known at a time
constexpr int kRowBytes = 2 * kGemmBlockK;
constexpr int kSlotRows = 64;
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

// By one thread; then the CTA has to synchronise.
template <class Shared>
__device__ __forceinline__ void init_barriers(Shared& s) {
  for (int i = 0; i < kStages; ++i) {
    barrier_init(&s.full[i], 1);
    barrier_init(&s.empty[i], kMathWarps);
  }
  for (int i = 0; i < kItems; ++i) {
    barrier_init(&s.item_full[i], 1);
    barrier_init(&s.item_empty[i], kMathThreads);
  }
  fence_barrier_init();
}

// The multiplying side of the ring of k steps, one a warpgroup: `kSlots` products of 64 x kColumns
// from the slots first, first + stride, ...
template <class T, class Shared, int kSlots>
class KSteps {
 public:
  static constexpr int kColumns = Shared::kColumns;

  __device__ __forceinline__ KSteps(Shared& shared, int first_slot, int slot_stride)
      : shared_(shared),
        a_(matrix_descriptor<Swizzle::k128B>(shared.stages[0].a + first_slot * kSlotBytes, 16,
                                             1024)),
        b_(matrix_descriptor<Swizzle::k128B>(shared.stages[0].b, 16, 1024)),
        slot_stride_(static_cast<uint32_t>(slot_stride) * (kSlotBytes >> 4)) {}

  // The next product overwrites the accumulators.
  __device__ __forceinline__ void begin() { scale_ = 0; }
  // Whether there was a product since.
  __device__ __forceinline__ bool started() const { return scale_ != 0; }

  // One step of k, of which the first 16 * kK16 columns count. kActive slots take part.
  template <int kK16, int kActive>
  __device__ __forceinline__ void multiply(float (&d)[kSlots][kColumns / 2]) {
    barrier_wait(&shared_.full[ring_.stage], ring_.phase);
    const uint64_t offset = static_cast<uint64_t>(static_cast<uint32_t>(ring_.stage) *
                                                  (sizeof(shared_.stages[0]) >> 4));
#pragma unroll
    for (int m = 0; m < kActive; ++m) wgmma_keep(d[m]);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kK16; ++k) {
#pragma unroll
      for (int m = 0; m < kActive; ++m) {
        Wgmma<T, kColumns>::template ss<0>(d[m], a_ + offset + m * slot_stride_ + 2 * k,
                                           b_ + offset + 2 * k, scale_);
      }
      scale_ = 1;
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (held_ >= 0) release(held_);
    held_ = ring_.stage;
    ring_.advance();
  }

  // Lets a step go by that this warpgroup does not need. A stage may be given back only after it
  // was filled: an earlier arrival would count for the phase before.
  __device__ __forceinline__ void pass() {
    barrier_wait(&shared_.full[ring_.stage], ring_.phase);
    release(ring_.stage);
    ring_.advance();
  }

  // Until all products are done.
  template <int kActive>
  __device__ __forceinline__ void finish(float (&d)[kSlots][kColumns / 2]) {
    wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < kActive; ++m) wgmma_keep(d[m]);
    if (held_ >= 0) release(held_);
    held_ = -1;
  }

 private:
  __device__ __forceinline__ void release(int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(&shared_.empty[stage]);
  }

  Shared& shared_;
  const uint64_t a_, b_;  // descriptors in stage 0
  const uint32_t slot_stride_;
  RingState<kStages> ring_;
  int held_ = -1;  // the stage of the products still running, -1: none
  int scale_ = 0;
};

// The loading side: waits until the next stage is free. By a whole warp.
template <class Shared>
__device__ __forceinline__ void wait_free(Shared& s, const RingState<kStages>& ring) {
  barrier_wait(&s.empty[ring.stage], ring.phase ^ 1);
  __syncwarp();
}

// Brings memory into L2. A multiple of 16 bytes at a multiple of 16.
__device__ __forceinline__ void prefetch_l2(const void* p, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
}

// ---- 8 neighbouring results of one row

template <class T>
struct Packed;
template <>
struct Packed<__nv_bfloat16> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
  }
  static __device__ __forceinline__ float low(uint32_t bits) { return __uint_as_float(bits << 16); }
  static __device__ __forceinline__ float high(uint32_t bits) {
    return __uint_as_float(bits & 0xffff0000u);
  }
  static __device__ __forceinline__ float round(float v) { return low(pack(v, 0)); }
};
template <>
struct Packed<__half> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
  }
  static __device__ __forceinline__ float low(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
  }
  static __device__ __forceinline__ float high(uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(bits >> 16)));
  }
  static __device__ __forceinline__ float round(float v) { return low(pack(v, 0)); }
};

template <class T>
__device__ __forceinline__ void store8(T* p, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(p) =
      make_uint4(Packed<T>::pack(v[0], v[1]), Packed<T>::pack(v[2], v[3]),
                 Packed<T>::pack(v[4], v[5]), Packed<T>::pack(v[6], v[7]));
}

template <class T>
__device__ __forceinline__ void unpack8(const uint4& bits, float (&v)[8]) {
  v[0] = Packed<T>::low(bits.x), v[1] = Packed<T>::high(bits.x);
  v[2] = Packed<T>::low(bits.y), v[3] = Packed<T>::high(bits.y);
  v[4] = Packed<T>::low(bits.z), v[5] = Packed<T>::high(bits.z);
  v[6] = Packed<T>::low(bits.w), v[7] = Packed<T>::high(bits.w);
}

// Which of a thread's accumulators is column 32 * group + 8 * (lane % 4) + i of row lane / 4 + 8 *
// r (of the warp's 16 rows).
__device__ __forceinline__ constexpr int accumulator(int group, int r, int i) {
  return 16 * group + 4 * (i / 2) + 2 * r + i % 2;
}

__device__ __forceinline__ void load8(const float* p, float (&v)[8]) {
  const float4 low = *reinterpret_cast<const float4*>(p);
  const float4 high = *reinterpret_cast<const float4*>(p + 4);
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

}  // namespace flashomni::cuda::sm90

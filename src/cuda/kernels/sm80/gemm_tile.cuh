// SPDX-License-Identifier: Apache-2.0
//
// The product that the portable GEMM-Q and GEMM-O share: a tile of A (rows) times B (rows, the
// columns of the result) in steps of 32 columns of k that asynchronous copies bring, some steps
// ahead, into a ring in shared memory.
//
// The rows of every 32 of B lie in the order in which one thread's accumulators are neighbours (see
// common/packed.cuh), so that results go to memory 16 bytes at a time.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/async_copy.cuh"
#include "cuda/kernels/common/barrier.cuh"
#include "cuda/kernels/common/packed.cuh"
#include "cuda/kernels/sm80/gemm_args.h"
#include "cuda/kernels/sm80/mma.cuh"

namespace flashomni::cuda::sm80 {

template <class T_, int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_>
struct GemmTile {
  using T = T_;
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kWarpsN = kColumns / kWarpColumns;
  static constexpr int kThreads = 32 * (kRows / kWarpRows) * kWarpsN;
  static constexpr int kM = kWarpRows / 16;  // products of 16 rows
  static constexpr int kGroups = kWarpColumns / 32;
  static constexpr int kStages = 4;
  static constexpr int kRowBytes = 2 * kGemmBlockK;
  static constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
  static constexpr int kBytes = kStages * kStageBytes;

  using Sums = float[kM][kWarpColumns / 2];

  // Each thread copies the same 16 bytes of every kCopyRows-th row.
  static constexpr int kCopyRows = kThreads / 4;
  static constexpr int kCopiesA = kRows / kCopyRows, kCopiesB = kColumns / kCopyRows;
  static_assert(kCopyRows % 32 == 0 && kColumns % kCopyRows == 0);
  static __device__ __forceinline__ int copy_row() { return static_cast<int>(threadIdx.x) / 4; }
  // Column of a step.
  static __device__ __forceinline__ int copy_column() {
    return static_cast<int>(threadIdx.x) % 4 * 8;
  }
  // The row of B, a column of the result, that this thread's first copy brings.
  static __device__ __forceinline__ int copy_row_b() {
    const int row = copy_row(), j = row / 8 % 4, q = row / 2 % 4, e = row % 2;
    return row / 32 * 32 + 8 * q + 2 * j + e;
  }

  static __device__ __forceinline__ int first_row() {
    return static_cast<int>(threadIdx.x / 32) / kWarpsN * kWarpRows;
  }
  static __device__ __forceinline__ int first_column() {
    return static_cast<int>(threadIdx.x / 32) % kWarpsN * kWarpColumns;
  }

  // d += A B over `steps` steps. load(a, b): starts the copies of the next step to these addresses,
  // each kCopyRows rows after the one before. begin(): what is done while the first of them are on
  // their way, such as setting the sums. wanted(): whether this warp takes the next step.
  //
  // kAhead: operands of a step are read beside the products of the step before; all steps are
  // wanted then. The sums are the same. On an H100 it gains GEMM-Q 8 to 20 %, and costs GEMM-O,
  // whose copies take more instructions, 15 %.
  template <bool kAhead, class Load, class Begin, class Wanted>
  static __device__ __forceinline__ void multiply_all(uint32_t smem, Sums& d, int steps,
                                                      Load&& load, Begin&& begin, Wanted&& wanted) {
    const int copy_mask = copy_row() >> 1 & 3;
    const uint32_t copy_to =
        smem + static_cast<uint32_t>(copy_row() * kRowBytes +
                                     ((static_cast<int>(threadIdx.x) % 4 ^ copy_mask) << 4));
    const auto load_stage = [&](int stage) {
      const uint32_t to = copy_to + static_cast<uint32_t>(stage * kStageBytes);
      load(to, to + kRows * kRowBytes);
    };
    __syncthreads();  // the products of the pass before have ended
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) {
      if (s < steps) load_stage(s);
      async_copy_commit();
    }
    begin();
    int stage = 0, free = kStages - 1;
    // Step s + kStages - 1 takes the place of step s - 1, which all have read.
    const auto load_ahead = [&](int s) {
      if (s + kStages - 1 < steps) load_stage(free);
      async_copy_commit();
      free = stage;
      stage = stage + 1 == kStages ? 0 : stage + 1;
    };
    const auto address = [&] { return smem + static_cast<uint32_t>(stage * kStageBytes); };
    if constexpr (kAhead) {
      if (steps == 0) return;
      async_copy_wait<kStages - 2>();
      __syncthreads();
      Fragments first, second;
      load_fragments(smem, 0, first);
#pragma unroll 1
      for (int s = 0; s < steps; ++s) {
        load_fragments(address(), 1, second);
        multiply_fragments(first, d);
        async_copy_wait<kStages - 3>();
        __syncthreads();
        load_ahead(s);
        if (s + 1 < steps) load_fragments(address(), 0, first);
        multiply_fragments(second, d);
      }
    } else {
#pragma unroll 1
      for (int s = 0; s < steps; ++s) {
        async_copy_wait<kStages - 2>();
        __syncthreads();
        const uint32_t at = address();
        load_ahead(s);
        if (wanted()) {
          Fragments f[2];
          load_fragments(at, 0, f[0]);
          load_fragments(at, 1, f[1]);
          multiply_fragments(f[0], d);
          multiply_fragments(f[1], d);
        }
      }
    }
  }

 private:
  // Of 16 columns of k.
  struct Fragments {
    uint32_t a[kM][4], b[2 * kGroups][4];
  };

  // The k-th 16 columns of a stage.
  static __device__ __forceinline__ void load_fragments(uint32_t stage, int k, Fragments& f) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int row_a = lane % 16, row_b = lane / 16 * 8 + lane % 8;
    const uint32_t a_at = stage + static_cast<uint32_t>((first_row() + row_a) * kRowBytes);
    const uint32_t b_at =
        stage + static_cast<uint32_t>((kRows + first_column() + row_b) * kRowBytes);
    const uint32_t unit_a = static_cast<uint32_t>((lane / 16 ^ (row_a >> 1 & 3)) << 4);
    const uint32_t unit_b = static_cast<uint32_t>((lane / 8 % 2 ^ (row_b >> 1 & 3)) << 4);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      load_matrices(f.a[m], a_at + m * 16 * kRowBytes + (unit_a ^ k << 5));
    }
#pragma unroll
    for (int n = 0; n < 2 * kGroups; ++n) {
      load_matrices(f.b[n], b_at + n * 16 * kRowBytes + (unit_b ^ k << 5));
    }
  }

  static __device__ __forceinline__ void multiply_fragments(const Fragments& f, Sums& d) {
#pragma unroll
    for (int n = 0; n < 2 * kGroups; ++n) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply<T>(&d[m][8 * n], f.a[m], f.b[n][0], f.b[n][1]);
        multiply<T>(&d[m][8 * n + 4], f.a[m], f.b[n][2], f.b[n][3]);
      }
    }
  }
};

// Sets the sums to 8 neighbouring values for each group of 32 columns: of_group(g, v).
template <class Tile, class F>
__device__ __forceinline__ void start_sums(typename Tile::Sums& d, F&& of_group) {
#pragma unroll
  for (int g = 0; g < Tile::kGroups; ++g) {
    float v[8];
    of_group(g, v);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int i = 0; i < 16; ++i) d[m][accumulator(g, i / 8, i % 8)] = v[i % 8];
    }
  }
}

}  // namespace flashomni::cuda::sm80

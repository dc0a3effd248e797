// SPDX-License-Identifier: Apache-2.0
//
// The slopes that bias planes are made of: one CTA a tile of a query block and a head, and nothing
// to do for tiles that are computed.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/elementwise/elementwise.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBatch = 4;  // vectors of a thread whose loads are under way together

// All three tensors are laid out alike.
struct SlopeArgs {
  const void* fresh;
  const void* previous;
  void* slope;
  float inv_distance;
  const uint64_t* c;
  int heads, tokens, block, num_q, c_words;
  int64_t batch_stride, token_stride, head_stride;
  int head_dim;
};

template <class T, int kStep>
__global__ __launch_bounds__(kThreads) void taylor_slope_kernel(SlopeArgs a) {
  const int head = static_cast<int>(blockIdx.x), i = static_cast<int>(blockIdx.y);
  const int b = static_cast<int>(blockIdx.z);
  const uint64_t* c = a.c + (int64_t{b} * a.heads + head) * a.c_words;
  if (c[i / 64] >> (i % 64) & 1) return;
  const int first = i * a.block, rows = min(a.block, a.tokens - first);
  const int per_row = a.head_dim / kStep, steps = rows * per_row;
  const int64_t base = b * a.batch_stride + first * a.token_stride + head * a.head_stride;
  const T* fresh = static_cast<const T*>(a.fresh) + base;
  const T* previous = static_cast<const T*>(a.previous) + base;
  T* slope = static_cast<T*>(a.slope) + base;
  for (int from = static_cast<int>(threadIdx.x); from < steps; from += kBatch * kThreads) {
    float x[kBatch][kStep], y[kBatch][kStep];
    int64_t at[kBatch];
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int k = min(from + n * kThreads, steps - 1);
      at[n] = k / per_row * a.token_stride + k % per_row * kStep;
      load_elements<kStep>(fresh + at[n], x[n]);
      load_elements<kStep>(previous + at[n], y[n]);
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      if (from + n * kThreads >= steps) break;
#pragma unroll
      for (int e = 0; e < kStep; ++e) x[n][e] = (x[n][e] - y[n][e]) * a.inv_distance;
      store_elements<kStep>(slope + at[n], x[n]);
    }
  }
}

template <class T>
void launch(const SlopeArgs& args, bool vectors, dim3 grid, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  if (vectors) {
    taylor_slope_kernel<T, kVector><<<grid, kThreads, 0, stream>>>(args);
  } else {
    taylor_slope_kernel<T, 1><<<grid, kThreads, 0, stream>>>(args);
  }
}

}  // namespace

Status taylor_slope(cudaStream_t stream, const TaylorSlopeParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  const TensorView& like = p.slope;
  if (like.numel() == 0) return ok_status();
  const SlopeArgs args{.fresh = p.fresh.data,
                       .previous = p.previous.data,
                       .slope = p.slope.data,
                       .inv_distance = p.inv_distance,
                       .c = p.symbols.c,
                       .heads = static_cast<int>(like.size(2)),
                       .tokens = static_cast<int>(like.size(1)),
                       .block = g.block_q,
                       .num_q = g.num_q_blocks(),
                       .c_words = g.c_words(),
                       .batch_stride = like.stride[0],
                       .token_stride = like.stride[1],
                       .head_stride = like.stride[2],
                       .head_dim = static_cast<int>(like.size(3))};
  const int64_t vector = 16 / static_cast<int64_t>(dtype_bytes(like.dtype));
  bool vectors = args.head_dim % vector == 0;
  for (const void* data : {args.fresh, args.previous, static_cast<const void*>(args.slope)}) {
    vectors = vectors && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  }
  const dim3 grid(static_cast<unsigned>(args.heads), static_cast<unsigned>(args.num_q),
                  static_cast<unsigned>(like.size(0)));
  switch (like.dtype) {
    case DType::kBF16:
      launch<__nv_bfloat16>(args, vectors, grid, stream);
      break;
    case DType::kF16:
      launch<__half>(args, vectors, grid, stream);
      break;
    default:
      launch<float>(args, vectors, grid, stream);
  }
  return launch_status("taylor_slope");
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// LayerNorm without affine weights, then scale and shift: a row is read once and kept in registers
// for its mean, its variance and the result.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/elementwise/pieces.h"

namespace flashomni::cuda {
namespace {

struct NormArgs {
  void *x, *out, *scale, *shift;
  DType x_dtype, out_dtype, scale_dtype, shift_dtype;
  int64_t x_batch, x_row, out_batch, out_row, scale_batch, shift_batch;
  int64_t rows;  // of a batch item
  int width;
  float eps;
};

// A CTA a row; every thread holds kPerThread steps of kStep columns, blockDim.x steps apart.
template <int kStep, int kPerThread, int kMaxThreads>
__global__ __launch_bounds__(kMaxThreads) void norm_modulate_kernel(NormArgs a) {
  __shared__ float scratch[kBlockScratch];
  const int64_t b = blockIdx.x / a.rows, row = blockIdx.x % a.rows;
  float v[kPerThread][kStep];
  const auto column = [](int k) {
    return static_cast<int>((k * blockDim.x + threadIdx.x) * kStep);
  };
  float sum = 0;
  with_elements(a.x, a.x_dtype, [&](auto* x) {
    x += b * a.x_batch + row * a.x_row;
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) {
      if (column(k) < a.width) {
        load_elements<kStep>(x + column(k), v[k]);
      } else {
#pragma unroll
        for (float& e : v[k]) e = 0;
      }
    }
  });
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {
#pragma unroll
    for (float e : v[k]) sum += e;
  }
  const float inverse_width = 1.f / static_cast<float>(a.width);
  const float mean = block_reduce(sum, 0.f, Add{}, scratch) * inverse_width;
  float square = 0;
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {
    if (column(k) >= a.width) continue;
#pragma unroll
    for (float& e : v[k]) {
      e -= mean;
      square = fmaf(e, e, square);
    }
  }
  const float variance = block_reduce(square, 0.f, Add{}, scratch) * inverse_width;
  const float inverse = 1.f / sqrtf(variance + a.eps);
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {
    const int c = column(k);
    if (c >= a.width) continue;
    float scale[kStep], shift[kStep];
    load_elements<kStep>(a.scale, a.scale_dtype, b * a.scale_batch + c, scale);
    load_elements<kStep>(a.shift, a.shift_dtype, b * a.shift_batch + c, shift);
#pragma unroll
    for (int e = 0; e < kStep; ++e) v[k][e] = fmaf(v[k][e] * inverse, 1.f + scale[e], shift[e]);
    store_elements<kStep>(a.out, a.out_dtype, b * a.out_batch + row * a.out_row + c, v[k]);
  }
}

constexpr int kStep = 8;
constexpr int kSteps = 4;         // a thread, with vectors
constexpr int kSingleSteps = 16;  // a thread, element by element
constexpr int kThreads = kMaxNormWidth / (kStep * kSteps);
constexpr int kSingleThreads = kMaxNormWidth / kSingleSteps;
static_assert(kThreads <= 1024 && kSingleThreads <= 1024);

bool takes_vectors(const TensorView& v) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(v.dtype));
  bool aligned = reinterpret_cast<uintptr_t>(v.data) % 16 == 0;
  for (int i = 0; i < v.rank - 1; ++i) {
    aligned = aligned && (v.size(i) == 1 || v.stride[i] * bytes % 16 == 0);
  }
  return aligned && v.size(v.rank - 1) % kStep == 0;
}

unsigned threads_for(int64_t width, int64_t per_thread) {
  const int64_t threads = (width + per_thread - 1) / per_thread;
  return static_cast<unsigned>((threads + kWarp - 1) / kWarp * kWarp);
}

}  // namespace

Status norm_modulate(cudaStream_t stream, const NormModulateParams& p) {
  if (p.x.numel() == 0) return ok_status();
  const int64_t width = p.x.size(2);
  const NormArgs args{.x = p.x.data,
                      .out = p.out.data,
                      .scale = p.scale.data,
                      .shift = p.shift.data,
                      .x_dtype = p.x.dtype,
                      .out_dtype = p.out.dtype,
                      .scale_dtype = p.scale.dtype,
                      .shift_dtype = p.shift.dtype,
                      .x_batch = p.x.stride[0],
                      .x_row = p.x.stride[1],
                      .out_batch = p.out.stride[0],
                      .out_row = p.out.stride[1],
                      .scale_batch = p.scale.stride[0],
                      .shift_batch = p.shift.stride[0],
                      .rows = p.x.size(1),
                      .width = static_cast<int>(width),
                      .eps = p.eps};
  const unsigned blocks = static_cast<unsigned>(p.x.size(0) * p.x.size(1));
  if (takes_vectors(p.x) && takes_vectors(p.out) && takes_vectors(p.scale) &&
      takes_vectors(p.shift)) {
    norm_modulate_kernel<kStep, kSteps, kThreads>
        <<<blocks, threads_for(width, kStep * kSteps), 0, stream>>>(args);
  } else {
    norm_modulate_kernel<1, kSingleSteps, kSingleThreads>
        <<<blocks, threads_for(width, kSingleSteps), 0, stream>>>(args);
  }
  return launch_status("norm_modulate");
}

}  // namespace flashomni::cuda

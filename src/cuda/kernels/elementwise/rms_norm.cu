// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm over all heads of a token with RoPE: a CTA a token. Its row is read twice, the second
// time from the cache, so that rows of any width fit.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/elementwise/pieces.h"

namespace flashomni::cuda {
namespace {

struct RmsNormArgs {
  void* x;
  DType dtype;
  const float *weight, *cos, *sin;
  int64_t x_batch, x_row, x_head, tokens, cos_row, sin_row;
  int pairs, head_pairs;  // of a token, of a head
  float eps;
};

constexpr int kMaxThreads = 512;

__global__ __launch_bounds__(kMaxThreads) void rms_norm_kernel(RmsNormArgs a) {
  __shared__ float scratch[kBlockScratch];
  const int64_t n = blockIdx.x % a.tokens;
  const int64_t row = blockIdx.x / a.tokens * a.x_batch + n * a.x_row;
  with_elements(a.x, a.dtype, [&](auto* x) {
    x += row;
    const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
    // Pair p of the token lies in head p / head_pairs.
    const auto at = [&](int p) { return x + p / a.head_pairs * a.x_head + p % a.head_pairs * 2; };
    float square = 0;
    for (int p = first; p < a.pairs; p += step) {
      const float even = to_float(at(p)[0]), odd = to_float(at(p)[1]);
      square = fmaf(even, even, fmaf(odd, odd, square));
    }
    const float mean = block_reduce(square, 0.f, Add{}, scratch) / static_cast<float>(2 * a.pairs);
    const float inverse = 1.f / sqrtf(mean + a.eps);
    for (int p = first; p < a.pairs; p += step) {
      float even = to_float(at(p)[0]) * inverse * a.weight[2 * p];
      float odd = to_float(at(p)[1]) * inverse * a.weight[2 * p + 1];
      if (a.cos) {
        const int k = p % a.head_pairs;
        const float c = a.cos[n * a.cos_row + k], s = a.sin[n * a.sin_row + k];
        const float turned = even * c - odd * s;
        odd = odd * c + even * s;
        even = turned;
      }
      from_float(even, at(p)[0]);
      from_float(odd, at(p)[1]);
    }
  });
}

}  // namespace

Status rms_norm(cudaStream_t stream, const RmsNormParams& p) {
  if (p.x.numel() == 0) return ok_status();
  const int pairs = static_cast<int>(p.x.size(2) * p.x.size(3) / 2);
  const RmsNormArgs args{.x = p.x.data,
                         .dtype = p.x.dtype,
                         .weight = p.weight.as<float>(),
                         .cos = p.rope.cos.as<float>(),
                         .sin = p.rope.sin.as<float>(),
                         .x_batch = p.x.stride[0],
                         .x_row = p.x.stride[1],
                         .x_head = p.x.stride[2],
                         .tokens = p.x.size(1),
                         .cos_row = p.rope.cos.stride[0],
                         .sin_row = p.rope.sin.stride[0],
                         .pairs = pairs,
                         .head_pairs = static_cast<int>(p.x.size(3) / 2),
                         .eps = p.eps};
  const int threads = std::clamp((pairs + kWarp - 1) / kWarp * kWarp, kWarp, kMaxThreads);
  rms_norm_kernel<<<static_cast<unsigned>(p.x.size(0) * p.x.size(1)),
                    static_cast<unsigned>(threads), 0, stream>>>(args);
  return launch_status("rms_norm");
}

}  // namespace flashomni::cuda

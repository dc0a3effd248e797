// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm over all heads of a token with RoPE. One task is a few tokens; a token's sum runs in
// order, in double, so that threads and instruction sets change nothing.
#include <algorithm>
#include <cmath>

#include "cpu/elementwise.h"

namespace flashomni::cpu {
namespace {

constexpr int64_t kTaskElements = 16384;

// x [H, d] with heads `stride` elements apart.
void norm_token(float* x, int64_t heads, int64_t d, int64_t stride, const float* weight,
                float eps) {
  double square = 0;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < d; ++i) square += double(x[h * stride + i]) * double(x[h * stride + i]);
  }
  const auto mean = square / static_cast<double>(heads * d);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(mean + double(eps)));
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < d; ++i) x[h * stride + i] *= inverse * weight[h * d + i];
  }
}

void rotate_head(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t k = 0; k < pairs; ++k) {
    const float even = x[2 * k], odd = x[2 * k + 1];
    x[2 * k] = even * cos[k] - odd * sin[k];
    x[2 * k + 1] = odd * cos[k] + even * sin[k];
  }
}

}  // namespace

void rms_norm(const Context& context, const RmsNormParams& params) {
  const TensorView& x = params.x;
  if (x.numel() == 0) return;
  const int64_t tokens = x.size(1), heads = x.size(2), d = x.size(3);
  const int64_t stride = x.stride[2];
  context.pool.run(
      x.size(0) * tokens,
      [&](int64_t row, int) {
        const int64_t n = row % tokens;
        float* token = x.as<float>() + row / tokens * x.stride[0] + n * x.stride[1];
        norm_token(token, heads, d, stride, params.weight.as<float>(), params.eps);
        if (!params.rope) return;
        const float* cos = params.rope.cos.as<float>() + n * params.rope.cos.stride[0];
        const float* sin = params.rope.sin.as<float>() + n * params.rope.sin.stride[0];
        for (int64_t h = 0; h < heads; ++h) rotate_head(token + h * stride, cos, sin, d / 2);
      },
      std::max<int64_t>(1, kTaskElements / (heads * d)));
}

}  // namespace flashomni::cpu

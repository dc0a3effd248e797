// SPDX-License-Identifier: Apache-2.0
#include "cpu/pooling.h"

#include <algorithm>
#include <cmath>

namespace flashomni::cpu {

void token_mean(const Context& context, const TokenMeanParams& params) {
  // Partial sums over this many tokens keep the rounding error of long sequences small.
  constexpr int64_t kTokens = 64;
  const TensorView& x = params.x;
  const int64_t tokens = x.size(1), heads = x.size(2), d = x.size(3);
  context.pool.run(x.size(0) * heads, [&](int64_t group, int) {
    const int64_t b = group / heads, h = group % heads;
    const float* rows = x.as<float>() + b * x.stride[0] + h * x.stride[2];
    float* out = params.out.as<float>() + b * params.out.stride[0] + h * params.out.stride[1];
    std::fill_n(out, d, 0.f);
    for (int64_t t = 0; t < tokens; t += kTokens) {
      context.kernels.sum_rows(rows + t * x.stride[1], x.stride[1], std::min(kTokens, tokens - t),
                               d, out);
    }
    context.kernels.combine(out, 1.f / static_cast<float>(tokens), nullptr, 0.f, nullptr, 0.f, out,
                            d);
  });
}

int64_t pool_scratch_floats(const PoolParams& params) {
  return params.gate ? static_cast<int64_t>(float_bytes(params.x.size(3)) / sizeof(float)) : 0;
}

void pool(const Context& context, float* scratch, const PoolParams& params) {
  const TensorView& x = params.x;
  const TensorView& out = params.out;
  const int64_t tokens = x.size(1), heads = x.size(2);
  const int64_t blocks = params.starts ? out.size(2) : ceil_div(tokens, params.block);
  const int64_t scratch_floats = pool_scratch_floats(params);
  // Heads innermost: they share the cache lines and pages of a token.
  context.pool.run(x.size(0) * blocks * heads, [&](int64_t task, int worker) {
    const int64_t h = task % heads, i = task / heads % blocks, b = task / heads / blocks;
    const int64_t token = params.starts ? params.starts[i] : i * params.block;
    const int64_t end = params.starts ? params.starts[i + 1] : token + params.block;
    PoolArgs args;
    args.x = x.as<float>() + b * x.stride[0] + token * x.stride[1] + h * x.stride[2];
    args.x_stride = x.stride[1];
    args.rows = std::min(end, tokens) - token;
    args.width = x.size(3);
    args.offset = params.mean ? params.mean.as<float>() + b * params.mean.stride[0] +
                                    h * params.mean.stride[1]
                              : nullptr;
    args.mean = out.as<float>() + b * out.stride[0] + h * out.stride[1] + i * out.stride[2];
    args.unit_sum = params.gate ? scratch + worker * scratch_floats : nullptr;
    const float similarity = context.kernels.pool(args);
    if (params.gate) {
      const TensorView& gate = params.gate;
      gate.as<uint8_t>()[b * gate.stride[0] + h * gate.stride[1] + i] =
          similarity > params.theta_sim;
    }
  });
}

void block_scores(const Context& context, const BlockScoresParams& params) {
  const TensorView& q = params.q;
  const TensorView& k = params.k;
  const TensorView& out = params.out;
  const int64_t heads = q.size(1), rows = q.size(2), columns = k.size(2), d = q.size(3);
  const float scale = params.scale != 0.f ? params.scale : 1.f / std::sqrt(static_cast<float>(d));
  context.pool.run(q.size(0) * heads * rows, [&](int64_t task, int) {
    const int64_t i = task % rows, h = task / rows % heads, b = task / rows / heads;
    const float* query = q.as<float>() + b * q.stride[0] + h * q.stride[1] + i * q.stride[2];
    const float* key = k.as<float>() + b * k.stride[0] + h * k.stride[1];
    float* score = out.as<float>() + b * out.stride[0] + h * out.stride[1] + i * out.stride[2];
    for (int64_t j = 0; j < columns; ++j) {
      score[j] = scale * context.kernels.dot(query, key + j * k.stride[2], d);
    }
  });
}

}  // namespace flashomni::cpu

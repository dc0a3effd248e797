// SPDX-License-Identifier: Apache-2.0
#include "cpu/row_scores.h"

#include <algorithm>
#include <cmath>

namespace flashomni::cpu {
namespace {

// Largest entry and sum of exp(x - largest) of a row of scores; NaN weighs nothing.
struct RowSoftmax {
  float top = -INFINITY;
  double sum = 0;

  RowSoftmax(const float* x, int64_t n) {
    for (int64_t j = 0; j < n; ++j) top = std::max(top, x[j]);  // false for NaN
    for (int64_t j = 0; j < n; ++j) sum += weight(x[j]);
  }
  double weight(float x) const {
    if (x == top) return 1.0;
    return x < top ? std::exp(double{x} - top) : 0.0;
  }
  double share(float x) const { return sum > 0 ? weight(x) / sum : 0.0; }
};

// sum |x - y| and sum |y| over n neighbouring values.
void add_change(const float* x, const float* y, int64_t n, ChangeSums& sums) {
  // Partial sums in single precision, several side by side over short runs, vectorise and lose
  // nothing that matters.
  constexpr int64_t kRun = 64, kLanes = 16;
  for (int64_t start = 0; start < n; start += kRun) {
    const int64_t end = std::min(n, start + kRun);
    float difference[kLanes] = {}, magnitude[kLanes] = {};
    int64_t i = start;
    for (; i + kLanes <= end; i += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) {
        difference[l] += std::abs(x[i + l] - y[i + l]);
        magnitude[l] += std::abs(y[i + l]);
      }
    }
    for (; i < end; ++i) {
      difference[0] += std::abs(x[i] - y[i]);
      magnitude[0] += std::abs(y[i]);
    }
    for (int64_t l = 0; l < kLanes; ++l) {
      sums.difference += double{difference[l]};
      sums.magnitude += double{magnitude[l]};
    }
  }
}

}  // namespace

void column_mass(const Context& context, const ColumnMassParams& params) {
  const TensorView& z = params.scores;
  const int64_t heads = z.size(1), nq = z.size(2), nkv = z.size(3);
  context.pool.run(z.size(0) * heads, [&](int64_t group, int) {
    const int64_t b = group / heads, h = group % heads;
    const float* scores = z.as<float>() + b * z.stride[0] + h * z.stride[1];
    float* out = params.out.as<float>() + b * params.out.stride[0] + h * params.out.stride[1];
    std::fill_n(out, nq, 0.f);
    for (int64_t r = 0; r < nq; ++r) {
      const float* row = scores + r * z.stride[2];
      const RowSoftmax softmax(row, nkv);
      for (int64_t i = 0; i < nq; ++i) {
        const int64_t first = i * params.block_q / params.block_kv;
        const int64_t last = ((i + 1) * params.block_q - 1) / params.block_kv;
        double mass = 0;
        for (int64_t j = first; j <= last && j < nkv; ++j) mass += softmax.share(row[j]);
        out[i] += static_cast<float>(mass);
      }
    }
  });
}

void block_change(const Context& context, const BlockChangeParams& params) {
  const TensorView& x = params.x;
  const TensorView& y = params.y;
  const int64_t tokens = x.size(1), heads = x.size(2), d = x.size(3);
  const int64_t blocks = ceil_div(tokens, params.block);
  context.pool.run(x.size(0) * blocks * heads, [&](int64_t task, int) {
    const int64_t h = task % heads, i = task / heads % blocks, b = task / heads / blocks;
    ChangeSums sums;
    const int64_t end = std::min(tokens, (i + 1) * params.block);
    for (int64_t t = i * params.block; t < end; ++t) {
      add_change(x.as<float>() + b * x.stride[0] + t * x.stride[1] + h * x.stride[2],
                 y.as<float>() + b * y.stride[0] + t * y.stride[1] + h * y.stride[2], d, sums);
    }
    const TensorView& out = params.out;
    out.as<float>()[b * out.stride[0] + h * out.stride[1] + i] =
        static_cast<float>(params.relative ? sums.relative() : sums.difference);
  });
}

void measure_change(const Context& context, const MeasureChangeParams& params) {
  const TensorView& x = params.x;
  const TensorView& y = params.y;
  const int64_t rows = x.size(1), pieces = ceil_div(rows, MeasureChangeParams::kRows);
  const auto part = [&](int64_t b, int64_t piece) {
    return params.workspace.as<double>() + b * params.workspace.stride[0] +
           piece * params.workspace.stride[1];
  };
  context.pool.run(x.size(0) * pieces, [&](int64_t task, int) {
    const int64_t b = task / pieces, piece = task % pieces;
    ChangeSums sums;
    const int64_t end = std::min(rows, (piece + 1) * MeasureChangeParams::kRows);
    for (int64_t r = piece * MeasureChangeParams::kRows; r < end; ++r) {
      add_change(x.as<float>() + b * x.stride[0] + r * x.stride[1],
                 y.as<float>() + b * y.stride[0] + r * y.stride[1], x.size(2), sums);
    }
    part(b, piece)[0] = sums.difference;
    part(b, piece)[1] = sums.magnitude;
  });
  // In a fixed order, so that the sum does not depend on the number of threads.
  *params.out = {};
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      params.out->difference += part(b, piece)[0];
      params.out->magnitude += part(b, piece)[1];
    }
  }
}

}  // namespace flashomni::cpu

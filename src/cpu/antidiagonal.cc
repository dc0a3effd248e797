// SPDX-License-Identifier: Apache-2.0
#include "cpu/antidiagonal.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashomni::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr int64_t kLeastColumns = 64;  // key groups of a tile, in whole kv blocks
constexpr int64_t kRows = 32;          // query groups at a time

// The logits are a product of matrices: row m of the one holds the queries of group m from the last
// to the first, row n of the other the keys of group n from the first to the last.
struct Product {
  int64_t tokens, heads, stride, head_dim, depth, groups;
  int64_t width;    // groups of a kv block
  int64_t columns;  // of a tile
  int64_t panel, panels;
  int64_t row_floats;  // of a row of queries; rows do not collide in the cache

  Product(const Context& context, const AntidiagonalScoresParams& p)
      : tokens(p.q.size(1)),
        heads(p.q.size(2)),
        stride(p.stride),
        head_dim(p.q.size(3)),
        depth(stride * head_dim),
        groups(ceil_div(tokens, stride)),
        width(p.block_kv / stride),
        columns(width * ceil_div(kLeastColumns, width)),
        panel(context.kernels.panel),
        panels(ceil_div(columns, panel)),
        row_floats(depth + 16) {}
};

struct Scratch {
  float* keys;     // [panels][depth][panel]
  float* queries;  // [kRows][row_floats]
  float* logits;   // [panels][kRows][panel]
  float* row;      // [columns], or a row of kv blocks

  static size_t bytes(const Product& p, int64_t num_kv) {
    return kAlignment + float_bytes(p.panels * p.depth * p.panel) +
           float_bytes(kRows * p.row_floats) + float_bytes(p.panels * kRows * p.panel) +
           float_bytes(std::max(p.columns, num_kv));
  }
  Scratch(void* memory, const Product& p, int64_t num_kv) {
    Arena arena(memory);
    keys = arena.take<float>(p.panels * p.depth * p.panel);
    queries = arena.take<float>(kRows * p.row_floats);
    logits = arena.take<float>(p.panels * kRows * p.panel);
    row = arena.take<float>(std::max(p.columns, num_kv));
  }
};

// Of the groups from `first` on; zeros past the end of the tokens.
void pack_keys(const Product& p, const float* k, int64_t token_stride, int64_t first,
               float* packed) {
  std::fill_n(packed, p.panels * p.depth * p.panel, 0.f);
  const int64_t count = std::min(p.columns, p.groups - first);
  for (int64_t c = 0; c < count; ++c) {
    float* const column = packed + c / p.panel * p.depth * p.panel + c % p.panel;
    for (int64_t r = 0; r < p.stride; ++r) {
      const int64_t token = (first + c) * p.stride + r;
      if (token >= p.tokens) break;
      const float* from = k + token * token_stride;
      float* const to = column + r * p.head_dim * p.panel;
      for (int64_t i = 0; i < p.head_dim; ++i) to[i * p.panel] = from[i];
    }
  }
}

// Rows of the groups [first, first + rows).
void gather_queries(const Product& p, const float* q, int64_t token_stride, int64_t first,
                    int64_t rows, float* out) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t r = 0; r < p.stride; ++r) {
      const int64_t token = (first + m) * p.stride + p.stride - 1 - r;
      float* const to = out + m * p.row_floats + r * p.head_dim;
      if (token < p.tokens) {
        std::copy_n(q + token * token_stride, p.head_dim, to);
      } else {
        std::fill_n(to, p.head_dim, 0.f);
      }
    }
  }
}

// log(sum of exp(x)), and x becomes exp(x - largest); NaN weighs nothing.
float log_sum(const KernelTable& kernels, float* x, int64_t n) {
  float top = kNothing;
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(x[i])) x[i] = kNothing;
    top = std::max(top, x[i]);
  }
  if (std::isinf(top)) return top;
  for (int64_t i = 0; i < n; ++i) x[i] -= top;
  kernels.exp(x, x, n);
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return top + std::log(sum);
}

}  // namespace

size_t antidiagonal_scratch_bytes(const Context& context, const AntidiagonalScoresParams& params) {
  return Scratch::bytes(Product(context, params), params.out.size(3));
}

void antidiagonal_scores(const Context& context, void* scratch,
                         const AntidiagonalScoresParams& params) {
  const KernelTable& kernels = context.kernels;
  const Product p(context, params);
  const TensorView& out = params.out;
  const int64_t num_q = out.size(2), num_kv = out.size(3);
  const int64_t pairs = std::max(num_q, num_kv);
  const auto scale = static_cast<float>(
      params.scale != 0.f ? double{params.scale}
                          : 1.0 / (std::sqrt(double(p.head_dim)) * double(p.stride)));
  const size_t scratch_bytes = Scratch::bytes(p, num_kv);
  const auto own_scratch = [&](int worker) {
    return Scratch(static_cast<char*>(scratch) + scratch_bytes * static_cast<size_t>(worker), p,
                   num_kv);
  };
  // Of each group and kv block the logarithm of the sum of its exponentials.
  const auto sums_of = [&](int64_t group, int64_t m) {
    return params.workspace.as<float>() + (group * p.groups + m) * pairs;
  };

  const int64_t tiles = ceil_div(p.groups, p.columns);
  context.pool.run(params.q.size(0) * p.heads * tiles, [&](int64_t task, int worker) {
    const int64_t group = task / tiles, first = task % tiles * p.columns;
    const int64_t b = group / p.heads, h = group % p.heads;
    const float* q = params.q.as<float>() + b * params.q.stride[0] + h * params.q.stride[2];
    const float* k = params.k.as<float>() + b * params.k.stride[0] + h * params.k.stride[2];
    const Scratch own = own_scratch(worker);
    pack_keys(p, k, params.k.stride[1], first, own.keys);
    const int64_t columns = std::min(p.columns, p.groups - first);
    for (int64_t m0 = 0; m0 < p.groups; m0 += kRows) {
      const int64_t rows = std::min(kRows, p.groups - m0);
      gather_queries(p, q, params.q.stride[1], m0, rows, own.queries);
      for (int64_t n = 0; n < p.panels; ++n) {
        const GemmSpan span{own.queries, own.keys + n * p.depth * p.panel, p.depth};
        kernels.gemm_f32(&span, 1, p.row_floats, static_cast<int>(rows),
                         static_cast<int>(std::min(p.panel, p.columns - n * p.panel)),
                         own.logits + n * kRows * p.panel, false, nullptr);
      }
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t c = 0; c < columns; ++c) {
          own.row[c] = scale * own.logits[(c / p.panel * kRows + m) * p.panel + c % p.panel];
        }
        float* const sums = sums_of(group, m0 + m) + first / p.width;
        for (int64_t c = 0; c < columns; c += p.width) {
          sums[c / p.width] = log_sum(kernels, own.row + c, std::min(p.width, columns - c));
        }
      }
    }
  });

  const int64_t block_groups = params.block_q / p.stride;
  context.pool.run(params.q.size(0) * p.heads * num_q, [&](int64_t task, int worker) {
    const int64_t group = task / num_q, i = task % num_q;
    float* const mass = out.as<float>() + group / p.heads * out.stride[0] +
                        group % p.heads * out.stride[1] + i * out.stride[2];
    std::fill_n(mass, num_kv, 0.f);
    float* const row = own_scratch(worker).row;
    const int64_t end = std::min(p.groups, (i + 1) * block_groups);
    for (int64_t m = i * block_groups; m < end; ++m) {
      std::copy_n(sums_of(group, m), num_kv, row);
      const float total = log_sum(kernels, row, num_kv);
      if (std::isinf(total)) {
        // Where scores are infinite nothing else weighs.
        for (int64_t j = 0; j < num_kv; ++j) mass[j] += total > 0 && row[j] == total ? 1.f : 0.f;
        continue;
      }
      const float top = *std::max_element(sums_of(group, m), sums_of(group, m) + num_kv);
      const float share = std::exp(top - total);
      for (int64_t j = 0; j < num_kv; ++j) mass[j] += share * row[j];
    }
    for (int64_t j = 0; j < num_kv; ++j) mass[j] = std::log(mass[j]);
  });
}

}  // namespace flashomni::cpu

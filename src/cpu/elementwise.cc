// SPDX-License-Identifier: Apache-2.0
#include "cpu/elementwise.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace flashomni::cpu {
namespace {

// Elements of a task: enough to pay for handing it to a thread.
constexpr int64_t kTaskElements = 16384;
// Most tensors of one operation.
constexpr int kMaxTensors = 8;

// Element offset of row `row` of the rows (all dimensions but the last) in row-major order.
int64_t row_offset(const TensorView& v, int64_t row) {
  int64_t offset = 0;
  for (int i = v.rank - 2; i >= 0; --i) {
    offset += row % v.size(i) * v.stride[i];
    row /= v.size(i);
  }
  return offset;
}

// Calls body(pointers, n) for pieces of tensors of one f32 shape: pointers[i] is n consecutive
// elements of tensors[i], or null where that tensor is absent.
template <class F>
void for_each_piece(const Context& context, std::span<const TensorView> tensors, const F& body) {
  const TensorView& shape = tensors[0];
  const int64_t total = shape.numel();
  if (total == 0) return;
  const bool flat = std::all_of(tensors.begin(), tensors.end(),
                                [](const TensorView& v) { return !v || v.is_contiguous(); });
  const int64_t row = flat ? std::min(total, kTaskElements) : shape.size(shape.rank - 1);
  const int64_t rows = ceil_div(total, row);
  context.pool.run(
      rows,
      [&](int64_t r, int) {
        float* pointers[kMaxTensors];
        for (size_t i = 0; i < tensors.size(); ++i) {
          const TensorView& v = tensors[i];
          pointers[i] = v ? v.as<float>() + (flat ? r * row : row_offset(v, r)) : nullptr;
        }
        body(pointers, std::min(row, total - r * row));
      },
      std::max<int64_t>(1, kTaskElements / row));
}

}  // namespace

void norm_modulate(const Context& context, const NormModulateParams& params) {
  const TensorView& x = params.x;
  const int64_t rows = x.size(1), width = x.size(2);
  if (x.numel() == 0) return;
  const int64_t step = std::clamp<int64_t>(kTaskElements / width, 1, rows);
  const int64_t pieces = ceil_div(rows, step);
  context.pool.run(x.size(0) * pieces, [&](int64_t task, int) {
    const int64_t b = task / pieces;
    const int64_t row = task % pieces * step;
    NormArgs args;
    args.x = x.as<float>() + b * x.stride[0] + row * x.stride[1];
    args.x_stride = x.stride[1];
    args.out = params.out.as<float>() + b * params.out.stride[0] + row * params.out.stride[1];
    args.out_stride = params.out.stride[1];
    args.rows = std::min(step, rows - row);
    args.width = width;
    args.scale = params.scale.as<float>() + b * params.scale.stride[0];
    args.shift = params.shift.as<float>() + b * params.shift.stride[0];
    args.eps = params.eps;
    context.kernels.norm_modulate(args);
  });
}

void taylor_update(const Context& context, const TaylorUpdateParams& params) {
  TensorView tensors[1 + TaylorUpdateParams::kMaxFactors];
  tensors[0] = params.feature;
  std::copy_n(params.factors, params.count, tensors + 1);
  for_each_piece(context, std::span(tensors, static_cast<size_t>(params.count) + 1),
                 [&](float* const* p, int64_t n) {
                   context.kernels.taylor_update(p[0], p + 1, params.count, params.inv_distance, n);
                 });
}

void taylor_forecast(const Context& context, const TaylorForecastParams& params) {
  const TensorView& shape = params.factors[0];
  const int64_t rows = shape.size(1), width = shape.size(2);
  if (shape.numel() == 0) return;
  const auto at = [](const TensorView& v, int64_t b, int64_t row) {
    return v ? v.as<float>() + b * v.stride[0] + row * v.stride[1] : nullptr;
  };
  context.pool.run(
      shape.size(0) * rows,
      [&](int64_t index, int) {
        const int64_t b = index / rows, row = index % rows;
        ForecastArgs args{};
        args.count = params.count;
        for (int m = 0; m < params.count; ++m) {
          args.factors[m] = at(params.factors[m], b, row);
          args.coefficients[m] = params.coefficients[m];
        }
        args.out = at(params.out, b, row);
        args.residual = at(params.residual, b, row);
        args.gate = params.gate ? params.gate.as<float>() + b * params.gate.stride[0] : nullptr;
        context.kernels.taylor_forecast(args, width);
      },
      std::max<int64_t>(1, kTaskElements / width));
}

void activation(const Context& context, const ActivationParams& params) {
  const TensorView tensors[] = {params.x, params.out};
  for_each_piece(context, tensors, [&](float* const* p, int64_t n) {
    context.kernels.activation(params.activation, p[0], p[1], n);
  });
}

void combine(const Context& context, const CombineParams& params) {
  const TensorView tensors[] = {params.x, params.y, params.z, params.out};
  for_each_piece(context, tensors, [&](float* const* p, int64_t n) {
    context.kernels.combine(p[0], params.a, p[1], params.b, p[2], params.c, p[3], n);
  });
}

void copy(const Context& context, const CopyParams& params) {
  const TensorView& src = params.src;
  const TensorView& dst = params.dst;
  if (src.numel() == 0) return;
  const size_t element = dtype_bytes(src.dtype);
  const bool flat = src.is_contiguous() && dst.is_contiguous();
  const int64_t last = src.rank - 1;
  const int64_t row = flat ? std::min(src.numel(), kTaskElements) : src.size(int(last));
  const bool dense_rows = flat || row == 1 || (src.stride[last] == 1 && dst.stride[last] == 1);
  context.pool.run(
      ceil_div(src.numel(), row),
      [&](int64_t r, int) {
        const int64_t from = flat ? r * row : row_offset(src, r);
        const int64_t to = flat ? r * row : row_offset(dst, r);
        const char* s = static_cast<const char*>(src.data) + from * int64_t(element);
        char* d = static_cast<char*>(dst.data) + to * int64_t(element);
        const int64_t n = std::min(row, src.numel() - r * row);
        if (dense_rows) {
          std::memcpy(d, s, static_cast<size_t>(n) * element);
          return;
        }
        for (int64_t i = 0; i < n; ++i) {
          std::memcpy(d + i * dst.stride[last] * int64_t(element),
                      s + i * src.stride[last] * int64_t(element), element);
        }
      },
      std::max<int64_t>(1, kTaskElements / row));
}

}  // namespace flashomni::cpu

// SPDX-License-Identifier: Apache-2.0
//
// Activation, linear combination, Taylor cache and strided copies.
#include <cstring>

#include "cuda/error.h"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/elementwise/pieces.h"

namespace flashomni::cuda {
namespace {

constexpr int kVector = 8;
constexpr int kMaxFactors = TaylorUpdateParams::kMaxFactors;

// Calls body(piece, column) for every step of kStep columns of every piece.
template <int kStep, class F>
__device__ __forceinline__ void for_each_step(const Pieces& pieces, F&& body) {
  for (int64_t piece = blockIdx.x; piece < pieces.count; piece += gridDim.x) {
    const int64_t n = pieces.elements(piece);
    for (int64_t c = static_cast<int64_t>(threadIdx.x) * kStep; c < n;
         c += static_cast<int64_t>(blockDim.x) * kStep) {
      body(piece, c);
    }
  }
}

struct ActivationArgs {
  Pieces pieces;
  Operand x, out;
  Activation activation;
};

template <int kStep>
__global__ void activation_kernel(ActivationArgs a) {
  for_each_step<kStep>(a.pieces, [&](int64_t piece, int64_t c) {
    float v[kStep];
    load_elements<kStep>(a.x.data, a.x.dtype, a.pieces.offset(a.x, piece) + c, v);
#pragma unroll
    for (float& x : v) {
      if (a.activation == Activation::kGeluTanh) {
        x = gelu_tanh(x);
      } else if (a.activation == Activation::kSilu) {
        x = silu(x);
      }
    }
    store_elements<kStep>(a.out.data, a.out.dtype, a.pieces.offset(a.out, piece) + c, v);
  });
}

struct CombineArgs {
  Pieces pieces;
  Operand terms[3];
  float factors[3];
  Operand out;
};

template <int kStep>
__global__ void combine_kernel(CombineArgs a) {
  for_each_step<kStep>(a.pieces, [&](int64_t piece, int64_t c) {
    float sum[kStep];
#pragma unroll
    for (int t = 0; t < 3; ++t) {
      const Operand& term = a.terms[t];
      if (!term.data) continue;
      float v[kStep];
      load_elements<kStep>(term.data, term.dtype, a.pieces.offset(term, piece) + c, v);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
        sum[e] = t == 0 ? a.factors[0] * v[e] : fmaf(a.factors[t], v[e], sum[e]);
      }
    }
    store_elements<kStep>(a.out.data, a.out.dtype, a.pieces.offset(a.out, piece) + c, sum);
  });
}

struct UpdateArgs {
  Pieces pieces;
  Operand feature;
  Operand factors[kMaxFactors];
  int count;
  float inv_distance;
};

template <int kStep>
__global__ void taylor_update_kernel(UpdateArgs a) {
  for_each_step<kStep>(a.pieces, [&](int64_t piece, int64_t c) {
    float fresh[kStep];
    load_elements<kStep>(a.feature.data, a.feature.dtype, a.pieces.offset(a.feature, piece) + c,
                         fresh);
#pragma unroll
    for (int m = 0; m < kMaxFactors; ++m) {
      if (m >= a.count) break;
      const Operand& factor = a.factors[m];
      const int64_t at = a.pieces.offset(factor, piece) + c;
      float next[kStep];
      if (m + 1 < a.count) {
        load_elements<kStep>(factor.data, factor.dtype, at, next);
#pragma unroll
        for (int e = 0; e < kStep; ++e) next[e] = (fresh[e] - next[e]) * a.inv_distance;
      }
      store_elements<kStep>(factor.data, factor.dtype, at, fresh);
#pragma unroll
      for (int e = 0; e < kStep; ++e) fresh[e] = next[e];
    }
  });
}

struct ForecastArgs {
  Pieces pieces;  // rows
  Operand factors[kMaxFactors];
  float coefficients[kMaxFactors];
  int count;
  Operand out, residual;
  Operand gate;  // stride[2] from batch item to batch item
  int64_t rows_per_item;
};

template <int kStep>
__global__ void taylor_forecast_kernel(ForecastArgs a) {
  for_each_step<kStep>(a.pieces, [&](int64_t piece, int64_t c) {
    float y[kStep];
#pragma unroll
    for (int m = 0; m < kMaxFactors; ++m) {
      if (m >= a.count) break;
      const Operand& factor = a.factors[m];
      float v[kStep];
      load_elements<kStep>(factor.data, factor.dtype, a.pieces.offset(factor, piece) + c, v);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
        y[e] = m == 0 ? a.coefficients[0] * v[e] : fmaf(a.coefficients[m], v[e], y[e]);
      }
    }
    if (a.out.data) {
      store_elements<kStep>(a.out.data, a.out.dtype, a.pieces.offset(a.out, piece) + c, y);
    }
    if (!a.residual.data) return;
    const int64_t at = a.pieces.offset(a.residual, piece) + c;
    float r[kStep];
    load_elements<kStep>(a.residual.data, a.residual.dtype, at, r);
    if (a.gate.data) {
      float g[kStep];
      load_elements<kStep>(a.gate.data, a.gate.dtype,
                           piece / a.rows_per_item * a.gate.stride[2] + c, g);
#pragma unroll
      for (int e = 0; e < kStep; ++e) r[e] = fmaf(g[e], y[e], r[e]);
    } else {
#pragma unroll
      for (int e = 0; e < kStep; ++e) r[e] += y[e];
    }
    store_elements<kStep>(a.residual.data, a.residual.dtype, at, r);
  });
}

struct CopyArgs {
  Pieces pieces;
  Operand src, dst;
};

// Element is an unsigned integer or a vector of them; column strides count elements of that size.
template <class Element>
__global__ void copy_kernel(CopyArgs a, int64_t per_element) {
  for (int64_t piece = blockIdx.x; piece < a.pieces.count; piece += gridDim.x) {
    const int64_t n = a.pieces.elements(piece) / per_element;
    const Element* src =
        static_cast<const Element*>(a.src.data) + a.pieces.offset(a.src, piece) / per_element;
    Element* dst = static_cast<Element*>(a.dst.data) + a.pieces.offset(a.dst, piece) / per_element;
    for (int64_t c = threadIdx.x; c < n; c += blockDim.x) {
      dst[c * a.dst.column_stride] = src[c * a.src.column_stride];
    }
  }
}

// Vectors need whole vectors in every piece; a flat last piece is as long as the tensor is.
bool whole_vectors(const Pieces& pieces, int64_t vector) {
  return pieces.width % vector == 0 && pieces.total % vector == 0;
}

bool take_vectors(const Pieces& pieces, std::initializer_list<const Operand*> operands) {
  return whole_vectors(pieces, kVector) &&
         std::all_of(operands.begin(), operands.end(),
                     [](const Operand* o) { return takes_vectors(*o, kVector); });
}

template <class Args>
Status launch(cudaStream_t stream, const Args& args, bool vectors, void (*wide)(Args),
              void (*narrow)(Args), const char* what) {
  if (args.pieces.total == 0) return ok_status();
  const PieceGrid grid(args.pieces, vectors ? kVector : 1);
  if (vectors) {
    wide<<<grid.blocks, grid.threads, 0, stream>>>(args);
  } else {
    narrow<<<grid.blocks, grid.threads, 0, stream>>>(args);
  }
  return launch_status(what);
}

// Rows, whether or not they lie one after the other: a gate has one row a batch item.
Pieces make_rows(const TensorView& like) {
  Pieces rows;
  rows.shape[1] = like.size(0);
  rows.shape[2] = like.size(1);
  rows.count = like.size(0) * like.size(1);
  rows.width = like.size(2);
  rows.total = like.numel();
  return rows;
}

Operand row_operand(const TensorView& v) {
  Operand o;
  if (!v) return o;
  o.data = v.data;
  o.dtype = v.dtype;
  o.stride[1] = v.size(0) == 1 ? 0 : v.stride[0];
  o.stride[2] = v.size(1) == 1 ? 0 : v.stride[1];
  return o;
}

template <class Element>
Status launch_copy(cudaStream_t stream, const CopyArgs& args, int64_t per_element) {
  const PieceGrid grid(args.pieces, per_element);
  copy_kernel<Element><<<grid.blocks, grid.threads, 0, stream>>>(args, per_element);
  return launch_status("copy");
}

}  // namespace

Status activation(cudaStream_t stream, const ActivationParams& params) {
  Operand o[2];
  ActivationArgs args;
  args.pieces = make_pieces({&params.x, &params.out}, o);
  args.x = o[0];
  args.out = o[1];
  args.activation = params.activation;
  return launch(stream, args, take_vectors(args.pieces, {&args.x, &args.out}),
                activation_kernel<kVector>, activation_kernel<1>, "activation");
}

Status combine(cudaStream_t stream, const CombineParams& params) {
  Operand o[4];
  CombineArgs args;
  args.pieces = make_pieces({&params.x, &params.y, &params.z, &params.out}, o);
  for (int t = 0; t < 3; ++t) args.terms[t] = o[t];
  args.factors[0] = params.a;
  args.factors[1] = params.b;
  args.factors[2] = params.c;
  args.out = o[3];
  return launch(stream, args, take_vectors(args.pieces, {&o[0], &o[1], &o[2], &o[3]}),
                combine_kernel<kVector>, combine_kernel<1>, "combine");
}

Status taylor_update(cudaStream_t stream, const TaylorUpdateParams& params) {
  const TensorView none;
  const TensorView* factors[kMaxFactors];
  for (int m = 0; m < kMaxFactors; ++m) factors[m] = m < params.count ? &params.factors[m] : &none;
  Operand o[1 + kMaxFactors];
  UpdateArgs args;
  args.pieces = make_pieces({&params.feature, factors[0], factors[1], factors[2], factors[3]}, o);
  args.feature = o[0];
  for (int m = 0; m < kMaxFactors; ++m) args.factors[m] = o[1 + m];
  args.count = params.count;
  args.inv_distance = params.inv_distance;
  return launch(stream, args, take_vectors(args.pieces, {&o[0], &o[1], &o[2], &o[3], &o[4]}),
                taylor_update_kernel<kVector>, taylor_update_kernel<1>, "taylor_update");
}

Status taylor_forecast(cudaStream_t stream, const TaylorForecastParams& params) {
  const TensorView& shape = params.factors[0];
  ForecastArgs args;
  args.pieces = make_rows(shape);
  bool vectors = whole_vectors(args.pieces, kVector);
  for (int m = 0; m < params.count; ++m) {
    args.factors[m] = row_operand(params.factors[m]);
    args.coefficients[m] = params.coefficients[m];
    vectors = vectors && takes_vectors(args.factors[m], kVector);
  }
  args.count = params.count;
  args.out = row_operand(params.out);
  args.residual = row_operand(params.residual);
  if (params.gate) {
    args.gate.data = params.gate.data;
    args.gate.dtype = params.gate.dtype;
    args.gate.stride[2] = params.gate.size(0) == 1 ? 0 : params.gate.stride[0];
  }
  args.rows_per_item = shape.size(1);
  vectors = vectors && takes_vectors(args.out, kVector) && takes_vectors(args.residual, kVector) &&
            takes_vectors(args.gate, kVector);
  return launch(stream, args, vectors, taylor_forecast_kernel<kVector>, taylor_forecast_kernel<1>,
                "taylor_forecast");
}

Status copy(cudaStream_t stream, const CopyParams& params) {
  if (params.src.numel() == 0) return ok_status();
  if (params.src.is_contiguous() && params.dst.is_contiguous()) {
    return cuda_status(cudaMemcpyAsync(params.dst.data, params.src.data, params.src.bytes(),
                                       cudaMemcpyDeviceToDevice, stream),
                       "copying on the device");
  }
  Operand o[2];
  CopyArgs args;
  args.pieces = make_pieces({&params.src, &params.dst}, o);
  args.src = o[0];
  args.dst = o[1];
  const size_t bytes = dtype_bytes(params.src.dtype);
  const int64_t vector = 16 / static_cast<int64_t>(bytes);
  if (whole_vectors(args.pieces, vector) && takes_vectors(args.src, vector) &&
      takes_vectors(args.dst, vector)) {
    return launch_copy<uint4>(stream, args, vector);
  }
  switch (bytes) {
    case 1:
      return launch_copy<uint8_t>(stream, args, 1);
    case 2:
      return launch_copy<uint16_t>(stream, args, 1);
    case 4:
      return launch_copy<uint32_t>(stream, args, 1);
    default:
      return launch_copy<uint64_t>(stream, args, 1);
  }
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm_config.h"

#include <algorithm>
#include <string>

#include "base/ceil_div.h"
#include "cuda/checks.h"
#include "cuda/kernels/sm90/gemm_args.h"

namespace flashomni::cuda {
namespace {

// What the copy engine and 16-byte accesses ask of addresses and strides.
constexpr int64_t kAccessBytes = 16;
// Columns of a 128-byte swizzle.
constexpr int kBoxColumns = sm90::kGemmBlockK;

std::string describe(DType dtype, std::initializer_list<int64_t> shape) {
  std::string s = std::string(dtype_name(dtype)) + "[";
  const char* comma = "";
  for (const int64_t n : shape) {
    s += comma + std::to_string(n);
    comma = ",";
  }
  return s + "]";
}

// Bytes between neighbours of dimension `dim`; of a dimension with one element any legal number.
int64_t stride_bytes(const TensorView& v, int dim) {
  const int64_t bytes = v.stride[dim] * static_cast<int64_t>(dtype_bytes(v.dtype));
  return v.size(dim) > 1 ? bytes : std::max(bytes / kAccessBytes * kAccessBytes, kAccessBytes);
}

}  // namespace

Status check_gemm_kernel(const char* operation, DType dtype, int64_t head_dim) {
  const bool typed = dtype == DType::kBF16 || dtype == DType::kF16;
  const bool sized = head_dim == 64 || head_dim == 96 || head_dim == 128;
  if (typed && sized) return ok_status();
  std::string reasons;
  if (!typed) {
    reasons = std::string("activations are ") + dtype_name(dtype) + ", wanted bf16 or f16";
  }
  if (!sized) {
    reasons += std::string(reasons.empty() ? "" : "; ") + "head_dim is " +
               std::to_string(head_dim) + ", wanted 64, 96 or 128";
  }
  return unsupported(std::string(operation) + " on a GPU: " + reasons);
}

Status check_operand(const char* name, const TensorView& v, DType dtype,
                     std::initializer_list<int64_t> shape) {
  if (!v) return wanted(name, "missing", describe(dtype, shape));
  bool same = v.dtype == dtype && v.rank == static_cast<int>(shape.size());
  for (int i = 0; same && i < v.rank; ++i) same = v.size(i) == shape.begin()[i];
  if (!same) return wanted(name, v.to_string(), describe(dtype, shape));
  const int last = v.rank - 1;
  if (v.size(last) > 1 && v.stride[last] != 1) {
    return wanted("innermost stride of " + std::string(name), std::to_string(v.stride[last]), "1");
  }
  if (reinterpret_cast<uintptr_t>(v.data) % kAccessBytes != 0) {
    return wanted("address of " + std::string(name), "no multiple of 16", "one");
  }
  for (int i = 0; i < last; ++i) {
    const int64_t bytes = v.stride[i] * static_cast<int64_t>(dtype_bytes(dtype));
    if (v.size(i) <= 1 || (bytes > 0 && bytes % kAccessBytes == 0)) continue;
    return wanted("stride " + std::to_string(i) + " of " + name, std::to_string(bytes) + " bytes",
                  "a positive multiple of 16");
  }
  return ok_status();
}

Status check_optional_operand(const char* name, const TensorView& v, DType dtype,
                              std::initializer_list<int64_t> shape) {
  return v ? check_operand(name, v, dtype, shape) : ok_status();
}

Status check_gemm_segment(int token_offset, int64_t rows, int64_t tokens) {
  if (token_offset >= 0 && rows >= 0 && token_offset + rows <= tokens) return ok_status();
  return wanted(
      "segment",
      "[" + std::to_string(token_offset) + ", " + std::to_string(token_offset + rows) + ")",
      "a part of the " + std::to_string(tokens) + " tokens");
}

Status check_gemm_weight(const PackedWeight* weight, DType dtype, int64_t in, int64_t out,
                         int64_t head_dim) {
  if (!weight) return wanted("weight", "missing", "a packed weight");
  const CudaPackedWeight* w = cuda_weight(weight);
  if (!w) {
    return invalid_argument("weight was packed by another backend, wanted one packed by this one");
  }
  if (w->dtype() != dtype) {
    return unsupported(std::string("weight is ") + dtype_name(w->dtype()) + ", wanted " +
                       dtype_name(dtype) + " as the activations");
  }
  if (w->in_features() != in || (out > 0 && w->out_features() != out)) {
    const std::string seen =
        std::to_string(w->in_features()) + " to " + std::to_string(w->out_features());
    return wanted("features of the weight", seen,
                  std::to_string(in) + " to " + (out > 0 ? std::to_string(out) : "any"));
  }
  if (w->head_dim() != head_dim) {
    return wanted("out_head_dim of the weight", std::to_string(w->head_dim()),
                  std::to_string(head_dim));
  }
  if (in % 8 == 0 && w->out_features() % 8 == 0) return ok_status();
  return unsupported("features of the weight are " + std::to_string(in) + " to " +
                     std::to_string(w->out_features()) + ", wanted multiples of 8 on a GPU");
}

Status check_gemm_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads,
                          int64_t tokens) {
  if (!symbols.c && !symbols.s) return ok_status();
  if (!symbols) {
    return wanted("symbols", symbols.c ? "S_c without S_s" : "S_s without S_c", "both or neither");
  }
  const SymbolGeometry& g = symbols.geometry;
  FO_RETURN_IF_ERROR(g.validate());
  if (g.batch != batch || g.heads != heads || g.q_tokens != tokens) {
    const auto sizes = [](int64_t b, int64_t h, int64_t n) {
      return std::to_string(b) + " x " + std::to_string(h) + " x " + std::to_string(n);
    };
    return wanted("batch x heads x q_tokens of the symbols", sizes(g.batch, g.heads, g.q_tokens),
                  sizes(batch, heads, tokens));
  }
  if (g.ragged()) {
    return unsupported("a projection with symbols of ragged blocks, wanted blocks of one size");
  }
  if (g.block_q == 64 || g.block_q == 128) return ok_status();
  return unsupported("block_q of the symbols is " + std::to_string(g.block_q) +
                     ", wanted 64 or 128 on a GPU");
}

TensorMapDesc rows_map(const TensorView& v, int box_rows) {
  TensorMapDesc desc;
  desc.data = v.data;
  desc.dtype = v.dtype;
  desc.rank = 3;
  for (int i = 0; i < 3; ++i) desc.size[i] = v.size(2 - i);
  desc.stride_bytes[1] = stride_bytes(v, 1);
  desc.stride_bytes[2] = stride_bytes(v, 0);
  desc.box[0] = kBoxColumns;
  desc.box[1] = box_rows;
  return desc;
}

TensorMapDesc heads_map(const TensorView& v) {
  TensorMapDesc desc;
  desc.data = v.data;
  desc.dtype = v.dtype;
  desc.rank = 4;
  const int order[] = {3, 2, 1, 0};  // d, H, N, B
  for (int i = 0; i < 4; ++i) {
    desc.size[i] = v.size(order[i]);
    if (i > 0) desc.stride_bytes[i] = stride_bytes(v, order[i]);
  }
  desc.box[0] = kBoxColumns;
  desc.box[2] = sm90::kGemmORows;
  return desc;
}

TensorMapDesc rope_map(const TensorView& v) {
  TensorMapDesc desc;
  desc.data = v.data;
  desc.dtype = v.dtype;
  desc.rank = 2;
  desc.size[0] = v.size(1);
  desc.size[1] = v.size(0);
  desc.stride_bytes[1] = stride_bytes(v, 0);
  desc.box[0] = sm90::kGemmQRopeColumns;
  desc.box[1] = sm90::kGemmQSlotRows;
  return desc;
}

TensorMapDesc weight_map(const CudaPackedWeight& weight, int columns) {
  const int64_t row = weight.in_features() * static_cast<int64_t>(dtype_bytes(weight.dtype()));
  TensorMapDesc desc;
  desc.data = const_cast<void*>(weight.data());
  desc.dtype = weight.dtype();
  desc.rank = 5;
  // Rows 8q + 2j + e of a group of 32, walked with e fastest, then q, then j.
  const int64_t size[] = {weight.in_features(), 2, 4, 4,
                          weight.padded_rows() / CudaPackedWeight::kRowGroup};
  const int64_t step[] = {0, 1, 8, 2, CudaPackedWeight::kRowGroup};
  const int box[] = {kBoxColumns, 2, 4, 4, columns / static_cast<int>(CudaPackedWeight::kRowGroup)};
  for (int i = 0; i < 5; ++i) {
    desc.size[i] = size[i];
    desc.stride_bytes[i] = step[i] * row;
    desc.box[i] = box[i];
  }
  return desc;
}

int gemm_q_window(int units, int blocks, int block_rows) {
  int window = sm90::kGemmQWindowRows / block_rows;
  while (units * (ceil_div(blocks, window) + 1) > sm90::kGemmQMaxCounts) window *= 2;
  return window;
}

int gemm_o_panel(int column_tiles, int64_t in_features, bool symbols) {
  int most = 24;
  if (symbols) {
    constexpr int64_t kWeightBytes = int64_t{20} << 20;  // of the 50 MiB of an H100's L2
    const int64_t tile_bytes = int64_t{2} * sm90::kGemmOColumns * in_features;
    most = static_cast<int>(std::clamp<int64_t>(kWeightBytes / tile_bytes, 1, most));
  }
  const int panels = (column_tiles + most - 1) / most;
  return panels > 0 ? (column_tiles + panels - 1) / panels : 1;
}

}  // namespace flashomni::cuda

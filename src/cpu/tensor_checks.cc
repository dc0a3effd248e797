// SPDX-License-Identifier: Apache-2.0
#include "cpu/tensor_checks.h"

#include <algorithm>
#include <span>

#include "core/symbols_view.h"

namespace flashomni::cpu {
namespace {

using Shape = std::span<const int64_t>;

Shape shape_of(const TensorView& v) {
  return {v.shape, static_cast<size_t>(v.rank)};
}

std::string describe(DType dtype, Shape shape) {
  std::string s = std::string(dtype_name(dtype)) + "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i > 0 ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

std::string interval(int64_t begin, int64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

Status check_shape(const char* name, const TensorView& v, DType dtype, Shape shape) {
  if (!v) return wanted(name, "missing", describe(dtype, shape));
  if (v.dtype != dtype || !std::ranges::equal(shape_of(v), shape)) {
    return wanted(name, v.to_string(), describe(dtype, shape));
  }
  const int last = v.rank - 1;
  if (last < 0 || v.size(last) <= 1 || v.stride[last] == 1) return ok_status();
  return wanted("innermost stride of " + std::string(name), std::to_string(v.stride[last]), "1");
}

}  // namespace

Status wanted(const std::string& what, const std::string& seen, const std::string& want) {
  return invalid_argument(what + " is " + seen + ", wanted " + want);
}

Status check_rank(const char* name, const TensorView& v, int rank) {
  if (v && v.rank == rank) return ok_status();
  return wanted(name, v ? v.to_string() : "missing", "a tensor of rank " + std::to_string(rank));
}

Status check_tensor(const char* name, const TensorView& v, DType dtype,
                    std::initializer_list<int64_t> shape) {
  return check_shape(name, v, dtype, shape);
}

Status check_optional(const char* name, const TensorView& v, DType dtype,
                      std::initializer_list<int64_t> shape) {
  return v ? check_shape(name, v, dtype, shape) : ok_status();
}

Status check_f32(const char* name, const TensorView& v) {
  return v ? check_like(name, v, v) : wanted(name, "missing", "an f32 tensor");
}

Status check_like(const char* name, const TensorView& v, const TensorView& like) {
  return check_shape(name, v, DType::kF32, shape_of(like));
}

Status check_float_dtype(const char* name, DType dtype) {
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return ok_status();
  return unsupported("dtype of " + std::string(name) + " is " + dtype_name(dtype) +
                     ", wanted f32, bf16 or f16");
}

Status check_count(const char* name, int seen, int most) {
  if (seen >= 1 && seen <= most) return ok_status();
  return wanted(name, std::to_string(seen), "1.." + std::to_string(most));
}

Status check_range(const char* name, const BlockRange& range, int64_t blocks) {
  if (range.size() == 0 || (range.begin >= 0 && range.end <= blocks)) return ok_status();
  return wanted(name, interval(range.begin, range.end),
                "a range of the " + std::to_string(blocks) + " blocks");
}

Status check_segment(int token_offset, int64_t rows, int64_t tokens) {
  if (token_offset >= 0 && rows >= 0 && token_offset + rows <= tokens) return ok_status();
  return wanted("segment", interval(token_offset, token_offset + rows),
                "a part of the " + std::to_string(tokens) + " tokens");
}

Status check_symbols_given(const SymbolsView& symbols) {
  if (!symbols) return wanted("symbols", "missing", "both S_c and S_s");
  FO_RETURN_IF_ERROR(symbols.geometry.validate());
  const auto count = static_cast<size_t>(symbols.geometry.ragged_blocks) + 1;
  return validate_starts(symbols.geometry, {symbols.starts, symbols.starts ? count : 0});
}

Status check_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads, int64_t tokens,
                     int64_t kv_tokens) {
  FO_RETURN_IF_ERROR(check_symbols_given(symbols));
  const SymbolGeometry& g = symbols.geometry;
  const auto same = [](const char* name, int64_t seen, int64_t want) {
    if (seen == want || want < 0) return ok_status();
    return wanted(std::string(name) + " of the symbols", std::to_string(seen),
                  std::to_string(want));
  };
  FO_RETURN_IF_ERROR(same("batch", g.batch, batch));
  FO_RETURN_IF_ERROR(same("heads", g.heads, heads));
  FO_RETURN_IF_ERROR(same("q_tokens", g.q_tokens, tokens));
  return same("kv_tokens", g.kv_tokens, kv_tokens);
}

Status check_optional_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads,
                              int64_t tokens, int64_t kv_tokens) {
  if (symbols.c == nullptr && symbols.s == nullptr) return ok_status();
  if (!symbols) {
    return wanted("symbols", symbols.c ? "S_c without S_s" : "S_s without S_c", "both or neither");
  }
  return check_symbols(symbols, batch, heads, tokens, kv_tokens);
}

}  // namespace flashomni::cpu

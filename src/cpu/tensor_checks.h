// SPDX-License-Identifier: Apache-2.0
//
// The pieces that checks of arguments are made of. Messages are put together only when a check
// fails: operations run thousands of times a second.
#pragma once

#include <initializer_list>
#include <string>

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cpu {

// "<what> is <seen>, wanted <want>"
Status wanted(const std::string& what, const std::string& seen, const std::string& want);

Status check_rank(const char* name, const TensorView& v, int rank);
// The tensor exists, has this type and shape, and elements of a row lie next to each other.
Status check_tensor(const char* name, const TensorView& v, DType dtype,
                    std::initializer_list<int64_t> shape);
// As check_tensor, but may be absent.
Status check_optional(const char* name, const TensorView& v, DType dtype,
                      std::initializer_list<int64_t> shape);
// f32 with contiguous rows; of any shape, or of the shape of another tensor.
Status check_f32(const char* name, const TensorView& v);
Status check_like(const char* name, const TensorView& v, const TensorView& like);
// f32, bf16 or f16.
Status check_float_dtype(const char* name, DType dtype);

// 1..most
Status check_count(const char* name, int seen, int most);
// Inside [0, blocks); an empty range may lie anywhere.
Status check_range(const char* name, const BlockRange& range, int64_t blocks);
// [token_offset, token_offset + rows) lies inside [0, tokens).
Status check_segment(int token_offset, int64_t rows, int64_t tokens);

// Both arrays and a geometry that makes sense.
Status check_symbols_given(const SymbolsView& symbols);
// Symbols of these sizes; a negative number of tokens: any.
Status check_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads, int64_t tokens,
                     int64_t kv_tokens);
// As check_symbols, but may be absent; only half of them is a mistake.
Status check_optional_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads,
                              int64_t tokens, int64_t kv_tokens);

}  // namespace flashomni::cpu

// SPDX-License-Identifier: Apache-2.0
//
// SparseSymbols as a container: geometry, single bits, counts, validity. What is done with whole
// symbols lives beside it: symbols_algebra.cc, symbols_codec.cc, symbols_file.cc, symbols_print.cc.
#include "flashomni/symbols.h"

#include <algorithm>
#include <cassert>

#include "core/symbols_view.h"

namespace flashomni {
namespace {

Status check_range(const char* field, int value, int maximum) {
  if (value >= 1 && value <= maximum) return ok_status();
  return invalid_argument("symbol geometry: " + std::string(field) + " is " +
                          std::to_string(value) + ", wanted 1.." + std::to_string(maximum));
}

Status check_block(const char* field, int value) {
  if (value == 32 || value == 64 || value == 128) return ok_status();
  return invalid_argument("symbol geometry: " + std::string(field) + " is " +
                          std::to_string(value) + ", wanted 32, 64 or 128");
}

// Word offsets of a row of S_c and of a row of S_s.
size_t c_row(const SymbolGeometry& g, int b, int h) {
  assert(b >= 0 && b < g.batch && h >= 0 && h < g.heads);
  return static_cast<size_t>((int64_t{b} * g.heads + h) * g.c_words());
}

size_t s_row(const SymbolGeometry& g, int b, int h, int i) {
  assert(b >= 0 && b < g.batch && h >= 0 && h < g.heads && i >= 0 && i < g.num_q_blocks());
  return static_cast<size_t>(((int64_t{b} * g.heads + h) * g.num_q_blocks() + i) * g.s_words());
}

}  // namespace

Status SymbolGeometry::validate() const {
  FO_RETURN_IF_ERROR(check_range("batch", batch, kMaxSymbolBatch));
  FO_RETURN_IF_ERROR(check_range("heads", heads, kMaxSymbolHeads));
  FO_RETURN_IF_ERROR(check_range("q_tokens", q_tokens, kMaxSymbolTokens));
  FO_RETURN_IF_ERROR(check_range("kv_tokens", kv_tokens, kMaxSymbolTokens));
  FO_RETURN_IF_ERROR(check_block("block_q", block_q));
  FO_RETURN_IF_ERROR(check_block("block_kv", block_kv));
  if (ragged()) {
    if (block_q != block_kv || q_tokens != kv_tokens) {
      return invalid_argument("symbol geometry: ragged blocks of " + std::to_string(block_q) + "x" +
                              std::to_string(block_kv) + " over " + std::to_string(q_tokens) + "x" +
                              std::to_string(kv_tokens) + " tokens, wanted queries and keys alike");
    }
    const int least = (q_tokens + block_q - 1) / block_q;
    if (ragged_blocks < least || ragged_blocks > std::min(q_tokens, kMaxRaggedBlocks)) {
      return invalid_argument("symbol geometry: ragged_blocks is " + std::to_string(ragged_blocks) +
                              ", wanted " + std::to_string(least) + ".." +
                              std::to_string(std::min(q_tokens, kMaxRaggedBlocks)));
    }
  }
  // Cannot overflow: the fields above bound the product by 2^56.
  if (total_s_words() > kMaxSymbolWords) {
    return invalid_argument("symbol geometry: S_s has " + std::to_string(total_s_words()) +
                            " words, wanted at most " + std::to_string(kMaxSymbolWords) +
                            "; use larger blocks or fewer tokens");
  }
  return ok_status();
}

SparseSymbols::SparseSymbols(const SymbolGeometry& geometry, std::span<const int32_t> starts)
    : geometry_(geometry),
      starts_(starts.begin(), starts.end()),
      c_(static_cast<size_t>(geometry.total_c_words()), ~uint64_t{0}),
      s_(static_cast<size_t>(geometry.total_s_words()), ~uint64_t{0}) {
  assert(geometry.validate().ok());
  clear_padding(view());
}

bool SparseSymbols::c(int b, int h, int i) const {
  assert(i >= 0 && i < geometry_.num_q_blocks());
  return get_bit(c_.data() + c_row(geometry_, b, h), i);
}

bool SparseSymbols::s(int b, int h, int i, int j) const {
  assert(j >= 0 && j < geometry_.num_kv_blocks());
  return get_bit(s_.data() + s_row(geometry_, b, h, i), j);
}

void SparseSymbols::set_c(int b, int h, int i, bool on) {
  assert(i >= 0 && i < geometry_.num_q_blocks());
  set_bit(c_.data() + c_row(geometry_, b, h), i, on);
}

void SparseSymbols::set_s(int b, int h, int i, int j, bool on) {
  assert(j >= 0 && j < geometry_.num_kv_blocks());
  set_bit(s_.data() + s_row(geometry_, b, h, i), j, on);
}

SymbolCounts SparseSymbols::counts() const {
  return count_symbols(*this);
}

SymbolCounts SparseSymbols::counts(int b, int h) const {
  assert(b >= 0 && b < geometry_.batch && h >= 0 && h < geometry_.heads);
  return count_symbols(*this, b * geometry_.heads + h);
}

Status SparseSymbols::validate() const {
  FO_RETURN_IF_ERROR(geometry_.validate());
  FO_RETURN_IF_ERROR(validate_starts(geometry_, starts_));
  return validate_symbols(*this);
}

void SparseSymbols::repair() {
  repair_symbols(view());
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Operations with all their parameters as words that can be compared: two sequences of equal
// signature queue the same work on the same memory, so that a graph of one may stand for the other.
// Every field of a parameter struct is named here; one that is added to a struct breaks the build
// until it is named, too.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "flashomni/ops.h"

namespace flashomni {

class OpSignature {
 public:
  void clear() { words_.clear(); }
  const std::vector<uint64_t>& words() const { return words_; }

  void add_workspace(const void* workspace, size_t bytes) {
    put(workspace);
    put(bytes);
  }
  void add(const LinearParams& p) {
    const auto& [x, weight, activation, out, residual, gate] = p;
    begin(1, x, weight, activation, out, residual, gate);
  }
  void add(const NormModulateParams& p) {
    const auto& [x, scale, shift, out, eps] = p;
    begin(2, x, scale, shift, out, eps);
  }
  void add(const RmsNormParams& p) {
    const auto& [x, weight, eps, rope] = p;
    begin(3, x, weight, eps, rope);
  }
  void add(const GemmQParams& p) { begin(4, p); }
  void add(const GemmQkvParams& p) {
    const auto& [q, k, v] = p;
    begin(5, q, k, v);
  }
  // Counts of a threshold on the softmax reach the host: calls with one are nobody's equal, and
  // without one the place for them is of no account.
  void add(const AttentionParams& p) {
    const auto& [q, k, v, out, scale, symbols, plan, lse, softmax_skip, skip_counts] = p;
    begin(6, q, k, v, out, scale, symbols, plan, lse, softmax_skip);
    (void)skip_counts;
  }
  void add(const GemmOParams& p) { begin(7, p); }
  void add(const GemmOUpdateParams& p) {
    const auto& [base, factors] = p;
    begin(8, base, factors);
  }
  void add(const TaylorUpdateParams& p) {
    const auto& [feature, count, factors, inv_distance] = p;
    begin(9, feature, count, factors, inv_distance);
  }
  void add(const TaylorForecastParams& p) {
    const auto& [count, factors, coefficients, out, residual, gate] = p;
    begin(10, count, factors, coefficients, out, residual, gate);
  }
  void add(const ActivationParams& p) {
    const auto& [x, activation, out] = p;
    begin(11, x, activation, out);
  }
  void add(const CombineParams& p) {
    const auto& [x, y, z, a, b, c, out] = p;
    begin(12, x, y, z, a, b, c, out);
  }
  void add(const CopyParams& p) {
    const auto& [src, dst] = p;
    begin(13, src, dst);
  }

 private:
  template <class... Fields>
  void begin(uint64_t operation, const Fields&... fields) {
    words_.push_back(operation);
    (put(fields), ...);
  }
  template <class T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void put(T value) { words_.push_back(static_cast<uint64_t>(value)); }
  void put(float value) { words_.push_back(std::bit_cast<uint32_t>(value)); }
  void put(const void* address) { words_.push_back(reinterpret_cast<uint64_t>(address)); }
  template <class T, size_t N>
  void put(const T (&values)[N]) {
    for (const T& value : values) put(value);
  }
  void put(const TensorView& v) {
    const auto& [data, dtype, rank, shape, stride] = v;
    put(static_cast<const void*>(data));
    put(dtype);
    put(rank);
    put(shape);
    put(stride);
  }
  void put(const RopeTable& r) {
    const auto& [cos, sin] = r;
    put(cos);
    put(sin);
  }
  void put(const SymbolsView& s) {
    const auto& [g, c, words, starts] = s;
    const auto& [batch, heads, q_tokens, kv_tokens, block_q, block_kv, ragged_blocks] = g;
    for (const int n : {batch, heads, q_tokens, kv_tokens, block_q, block_kv, ragged_blocks})
      put(n);
    put(static_cast<const void*>(c));
    put(static_cast<const void*>(words));
    put(static_cast<const void*>(starts));
  }
  void put(const PlanView& p) {
    const auto& [data, bytes] = p;
    put(static_cast<const void*>(data));
    put(bytes);
  }
  void put(const GemmQParams& p) {
    const auto& [x, weight, rms_weight, rms_eps, rope, token_offset, out, symbols, plan] = p;
    put(x);
    put(static_cast<const void*>(weight));
    put(rms_weight);
    put(rms_eps);
    put(rope);
    put(token_offset);
    put(out);
    put(symbols);
    put(plan);
  }
  void put(const GemmOParams& p) {
    const auto& [attn, mlp, weight, token_offset, rows, out, residual, gate, symbols, plan,
                 num_planes, planes, coefficients] = p;
    for (const TensorView* t : {&attn, &mlp, &out, &residual, &gate}) put(*t);
    put(static_cast<const void*>(weight));
    put(token_offset);
    put(rows);
    put(symbols);
    put(plan);
    put(num_planes);
    put(planes);
    put(coefficients);
  }

  std::vector<uint64_t> words_;
};

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// What strategies compose symbols from. All of it works on whole 64-bit words, apart from the
// permutation, which moves set bits one by one. Padding bits are zero before and after.
#include <algorithm>
#include <cassert>
#include <string>

#include "core/symbols_view.h"

namespace flashomni {
namespace {

std::string describe(const SymbolGeometry& g) {
  return "batch " + std::to_string(g.batch) + ", heads " + std::to_string(g.heads) + ", tokens " +
         std::to_string(g.q_tokens) + " x " + std::to_string(g.kv_tokens) + ", blocks " +
         std::to_string(g.block_q) + " x " + std::to_string(g.block_kv) +
         (g.ragged() ? ", " + std::to_string(g.ragged_blocks) + " ragged" : "");
}

template <class Op>
Result<SparseSymbols> combine(const SparseSymbols& a, const SparseSymbols& b, Op op) {
  if (a.geometry() != b.geometry()) {
    return invalid_argument("symbols differ in geometry: (" + describe(a.geometry()) + ") and (" +
                            describe(b.geometry()) + "), wanted equal");
  }
  if (!std::ranges::equal(a.starts(), b.starts())) {
    return invalid_argument("symbols differ in where their ragged blocks start, wanted equal");
  }
  SparseSymbols out = a;
  std::ranges::transform(a.c_words(), b.c_words(), out.c_words().begin(), op);
  std::ranges::transform(a.s_words(), b.s_words(), out.s_words().begin(), op);
  return out;
}

// Doubles each of the lowest 32 bits of x: bit k goes to bits 2k and 2k+1.
uint64_t double_bits(uint64_t x) {
  x &= 0x00000000ffffffffull;
  x = (x | x << 16) & 0x0000ffff0000ffffull;
  x = (x | x << 8) & 0x00ff00ff00ff00ffull;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0full;
  x = (x | x << 2) & 0x3333333333333333ull;
  x = (x | x << 1) & 0x5555555555555555ull;
  return x | x << 1;
}

// Bit k of `dst` is bit k / factor of `src`; factor is 1, 2 or 4, so that the source bits of one
// word never straddle two.
void stretch_bits(const uint64_t* src, int factor, uint64_t* dst, int dst_bits) {
  const int chunk = kWordBits / factor;
  const int words = static_cast<int>(words_for_bits(dst_bits));
  for (int w = 0; w < words; ++w) {
    const int first = w * chunk;
    uint64_t word = src[first / kWordBits] >> (first % kWordBits);
    if (factor >= 2) word = double_bits(word);
    if (factor == 4) word = double_bits(word);
    dst[w] = word;
  }
  // The last source block may cover more fine blocks than there are.
  dst[words - 1] &= tail_mask(dst_bits);
}

// Checks one axis of an expansion.
Status check_divides(const char* field, int from, int to) {
  if (from % to == 0) return ok_status();
  return invalid_argument("symbols_expand: " + std::string(field) + " is " + std::to_string(from) +
                          " and cannot become " + std::to_string(to) + ", wanted a divisor of it");
}

Status refuse_ragged(const char* operation, const SymbolGeometry& g) {
  if (!g.ragged()) return ok_status();
  return unsupported(std::string(operation) + ": " + std::to_string(g.ragged_blocks) +
                     " blocks are ragged, wanted blocks of one size");
}

// Sets also the neighbours of every set bit.
void widen_bits(uint64_t* row, int words) {
  uint64_t before = 0;
  for (int w = 0; w < words; ++w) {
    const uint64_t x = row[w];
    const uint64_t after = w + 1 < words ? row[w + 1] : 0;
    row[w] = x | x << 1 | x >> 1 | before >> 63 | after << 63;
    before = x;
  }
}

// inverse[order[k]] = k, or why `order` is not a permutation of the blocks of one axis.
Result<std::vector<int>> invert(const char* axis, std::span<const int> order, int tokens,
                                int block) {
  const int blocks = (tokens + block - 1) / block;
  const std::string what = "symbols_permute: " + std::string(axis);
  if (order.size() != static_cast<size_t>(blocks)) {
    return invalid_argument(what + " has " + std::to_string(order.size()) + " entries, wanted " +
                            std::to_string(blocks));
  }
  std::vector<int> inverse(order.size(), -1);
  for (int k = 0; k < blocks; ++k) {
    const int from = order[static_cast<size_t>(k)];
    if (from < 0 || from >= blocks || inverse[static_cast<size_t>(from)] != -1) {
      return invalid_argument(what + "[" + std::to_string(k) + "] is " + std::to_string(from) +
                              ", wanted each of 0.." + std::to_string(blocks - 1) + " once");
    }
    inverse[static_cast<size_t>(from)] = k;
  }
  if (tokens % block != 0 && inverse.back() != blocks - 1) {
    return invalid_argument(what + " moves the last block, which has " +
                            std::to_string(tokens % block) + " of " + std::to_string(block) +
                            " tokens; wanted it to stay last");
  }
  return inverse;
}

// dst bit to[k] = src bit k. REQUIRES: dst is zero.
void scatter_bits(const uint64_t* src, std::span<const int> to, uint64_t* dst) {
  for_each_bit(src, static_cast<int64_t>(to.size()),
               [&](int64_t k) { set_bit(dst, to[static_cast<size_t>(k)], true); });
}

}  // namespace

Result<SparseSymbols> symbols_and(const SparseSymbols& a, const SparseSymbols& b) {
  return combine(a, b, [](uint64_t x, uint64_t y) { return x & y; });
}

Result<SparseSymbols> symbols_or(const SparseSymbols& a, const SparseSymbols& b) {
  return combine(a, b, [](uint64_t x, uint64_t y) { return x | y; });
}

SparseSymbols symbols_not(const SparseSymbols& a) {
  SparseSymbols out = a;
  for (uint64_t& word : out.c_words()) word = ~word;
  for (uint64_t& word : out.s_words()) word = ~word;
  clear_padding(out.view());
  return out;
}

Result<SparseSymbols> symbols_expand(const SparseSymbols& a, int block_q, int block_kv) {
  FO_RETURN_IF_ERROR(refuse_ragged("symbols_expand", a.geometry()));
  SymbolGeometry fine = a.geometry();
  fine.block_q = block_q;
  fine.block_kv = block_kv;
  FO_RETURN_IF_ERROR(fine.validate());
  FO_RETURN_IF_ERROR(check_divides("block_q", a.geometry().block_q, block_q));
  FO_RETURN_IF_ERROR(check_divides("block_kv", a.geometry().block_kv, block_kv));
  const int factor_q = a.geometry().block_q / block_q;
  const int factor_kv = a.geometry().block_kv / block_kv;

  SparseSymbols out(fine);
  const ConstSymbolsView from(a);
  uint64_t* c_row = out.c_words().data();
  uint64_t* s_row = out.s_words().data();
  for (int group = 0; group < from.num_groups(); ++group) {
    stretch_bits(from.c_row(group), factor_q, c_row, fine.num_q_blocks());
    c_row += fine.c_words();
    for (int i = 0; i < fine.num_q_blocks(); ++i) {
      stretch_bits(from.s_row(group, i / factor_q), factor_kv, s_row, fine.num_kv_blocks());
      s_row += fine.s_words();
    }
  }
  return out;
}

SparseSymbols symbols_dilate(const SparseSymbols& a, int radius) {
  assert(radius >= 0);
  SparseSymbols out = a;
  const int words = a.geometry().s_words();
  const int steps = std::min(radius, a.geometry().num_kv_blocks());
  for (size_t row = 0; row < out.s_words().size(); row += static_cast<size_t>(words)) {
    for (int step = 0; step < steps; ++step) widen_bits(out.s_words().data() + row, words);
  }
  clear_padding(out.view());
  return out;
}

Result<SparseSymbols> symbols_permute(const SparseSymbols& a, std::span<const int> q_order,
                                      std::span<const int> kv_order) {
  const SymbolGeometry& g = a.geometry();
  FO_RETURN_IF_ERROR(g.validate());
  FO_RETURN_IF_ERROR(refuse_ragged("symbols_permute", g));
  FO_ASSIGN_OR_RETURN(const std::vector<int> q_to,
                      invert("q_order", q_order, g.q_tokens, g.block_q));
  FO_ASSIGN_OR_RETURN(const std::vector<int> kv_to,
                      invert("kv_order", kv_order, g.kv_tokens, g.block_kv));

  SparseSymbols out(g);
  std::ranges::fill(out.c_words(), 0);
  std::ranges::fill(out.s_words(), 0);
  const ConstSymbolsView from(a);
  uint64_t* c_row = out.c_words().data();
  uint64_t* s_row = out.s_words().data();
  for (int group = 0; group < from.num_groups(); ++group) {
    scatter_bits(from.c_row(group), q_to, c_row);
    c_row += g.c_words();
    for (const int i : q_order) {
      scatter_bits(from.s_row(group, i), kv_to, s_row);
      s_row += g.s_words();
    }
  }
  return out;
}

}  // namespace flashomni

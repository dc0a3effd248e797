// SPDX-License-Identifier: Apache-2.0
#include "core/symbols_view.h"

#include <algorithm>
#include <string>

namespace flashomni {
namespace {

// Whether a row of `words` words has bits set past its first `bits`.
bool has_padding_bits(const uint64_t* row, int words, int bits) {
  return (row[words - 1] & ~tail_mask(bits)) != 0;
}

std::string position(const SymbolGeometry& g, int group) {
  return "b=" + std::to_string(group / g.heads) + ", h=" + std::to_string(group % g.heads);
}

}  // namespace

SymbolCounts count_symbols(const ConstSymbolsView& a, int group) {
  const int nq = a.geometry.num_q_blocks();
  const int nkv = a.geometry.num_kv_blocks();
  SymbolCounts counts;
  counts.rows = nq;
  counts.pairs = int64_t{nq} * nkv;
  for_each_bit(a.c_row(group), nq, [&](int64_t i) {
    ++counts.active_rows;
    counts.active_pairs += count_bits(a.s_row(group, static_cast<int>(i)), 0, nkv);
  });
  return counts;
}

SymbolCounts count_symbols(const ConstSymbolsView& a) {
  SymbolCounts total;
  for (int group = 0; group < a.num_groups(); ++group) {
    const SymbolCounts counts = count_symbols(a, group);
    total.rows += counts.rows;
    total.active_rows += counts.active_rows;
    total.pairs += counts.pairs;
    total.active_pairs += counts.active_pairs;
  }
  return total;
}

Status validate_starts(int64_t tokens, int block, std::span<const int32_t> starts) {
  const auto refuse = [&](size_t i, const std::string& want) {
    return invalid_argument("starts[" + std::to_string(i) + "] of ragged blocks is " +
                            std::to_string(starts[i]) + ", wanted " + want);
  };
  if (starts.empty()) return invalid_argument("ragged blocks have no starts");
  if (starts.front() != 0) return refuse(0, "0");
  for (size_t i = 1; i < starts.size(); ++i) {
    const int64_t length = int64_t{starts[i]} - starts[i - 1];
    if (length >= 1 && length <= block) continue;
    return refuse(i,
                  "1 to " + std::to_string(block) + " more than " + std::to_string(starts[i - 1]));
  }
  if (starts.back() == tokens) return ok_status();
  return refuse(starts.size() - 1, std::to_string(tokens) + ", the number of tokens");
}

Status validate_starts(const SymbolGeometry& g, std::span<const int32_t> starts) {
  if (!g.ragged()) {
    if (starts.empty()) return ok_status();
    return invalid_argument("symbols have starts of ragged blocks, but blocks of " +
                            std::to_string(g.block_q) + "x" + std::to_string(g.block_kv));
  }
  const size_t wanted = static_cast<size_t>(g.ragged_blocks) + 1;
  if (starts.size() != wanted) {
    return invalid_argument("symbols have " + std::to_string(starts.size()) +
                            " starts of ragged blocks, wanted " + std::to_string(wanted));
  }
  return validate_starts(g.q_tokens, g.block_q, starts);
}

Status validate_symbols(const ConstSymbolsView& a) {
  const SymbolGeometry& g = a.geometry;
  FO_RETURN_IF_ERROR(g.validate());
  const size_t starts = a.starts ? static_cast<size_t>(g.ragged_blocks) + 1 : 0;
  FO_RETURN_IF_ERROR(validate_starts(g, {a.starts, starts}));
  const int nq = g.num_q_blocks();
  const int nkv = g.num_kv_blocks();
  for (int group = 0; group < a.num_groups(); ++group) {
    const uint64_t* c_row = a.c_row(group);
    if (has_padding_bits(c_row, g.c_words(), nq)) {
      return invalid_argument("symbols: S_c of (" + position(g, group) +
                              ", i=" + std::to_string(nq) +
                              ") or later is set, wanted zero past the last of " +
                              std::to_string(nq) + " query blocks");
    }
    for (int i = 0; i < nq; ++i) {
      const uint64_t* s_row = a.s_row(group, i);
      if (has_padding_bits(s_row, g.s_words(), nkv)) {
        return invalid_argument("symbols: S_s of (" + position(g, group) +
                                ", i=" + std::to_string(i) + ") is set past the last of " +
                                std::to_string(nkv) + " kv blocks, wanted zero");
      }
      if (get_bit(c_row, i) && next_bit(s_row, 0, nkv) == nkv) {
        return invalid_argument("symbols: row (" + position(g, group) + ", i=" + std::to_string(i) +
                                ") is computed but has no kv block, wanted at least one");
      }
    }
  }
  return ok_status();
}

void repair_symbols(const SymbolsView& a) {
  clear_padding(a);
  const int nq = a.geometry.num_q_blocks();
  const int nkv = a.geometry.num_kv_blocks();
  const int s_words = a.geometry.s_words();
  const uint64_t* c_row = a.c;
  uint64_t* s_row = a.s;
  for (int group = 0; group < a.geometry.batch * a.geometry.heads; ++group) {
    for (int i = 0; i < nq; ++i) {
      if (!get_bit(c_row, i)) {
        std::fill_n(s_row, s_words, uint64_t{0});
      } else if (next_bit(s_row, 0, nkv) == nkv) {
        set_bit(s_row, diagonal_block(a.geometry, i), true);
      }
      s_row += s_words;
    }
    c_row += a.geometry.c_words();
  }
}

void clear_padding(const SymbolsView& a) {
  if (!a) return;  // symbols without rows have no padding
  const SymbolGeometry& g = a.geometry;
  const auto mask_last_words = [](uint64_t* words, int64_t total, int stride, int bits) {
    const uint64_t mask = tail_mask(bits);
    for (int64_t w = stride - 1; w < total; w += stride) words[w] &= mask;
  };
  mask_last_words(a.c, g.total_c_words(), g.c_words(), g.num_q_blocks());
  mask_last_words(a.s, g.total_s_words(), g.s_words(), g.num_kv_blocks());
}

int diagonal_block(const SymbolGeometry& geometry, int i) {
  // Of ragged blocks both sizes are alike, and so are the blocks.
  return std::min(i * geometry.block_q / geometry.block_kv, geometry.num_kv_blocks() - 1);
}

}  // namespace flashomni

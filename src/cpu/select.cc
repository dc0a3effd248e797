// SPDX-License-Identifier: Apache-2.0
#include "cpu/select.h"

#include <algorithm>
#include <cmath>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/select_rules.h"

namespace flashomni::cpu {
namespace {

// The keeping rules: entries[0, result) are those to keep.
int64_t keep_largest(SelectRule rule, const double* p, int64_t n, double parameter,
                     Entry* entries) {
  sort_entries(p, n, Order::kDescending, entries);
  switch (rule) {
    case SelectRule::kKeepCdfLt:
      return std::max<int64_t>(1, count_within(entries, n, parameter));
    case SelectRule::kKeepCdfGe: {
      // Kept while the sum of the strictly earlier ones is below the limit: the entry that crosses
      // it is kept too.
      double earlier = 0;
      int64_t kept = 0;
      while (kept < n && (kept == 0 || earlier < parameter)) earlier += entries[kept++].p;
      return kept;
    }
    case SelectRule::kTopK:
    case SelectRule::kDropCdf:
      break;
  }
  // Also false for a parameter that is not a number.
  if (!(parameter >= 1.0)) return 0;
  return static_cast<int64_t>(std::min(std::floor(parameter), static_cast<double>(n)));
}

// One row of S_s before S_c is looked at.
void select_row(const SelectKvBlocksParams& params, int64_t b, int64_t h, int64_t i,
                const SelectScratch& scratch, uint64_t* row) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t n = g.num_kv_blocks();
  const auto gated_off = [&](const TensorView& gate, int64_t k) {
    return gate && gate.as<uint8_t>()[b * gate.stride[0] + h * gate.stride[1] + k] == 0;
  };
  const bool whole = params.keep_q.contains(static_cast<int>(i)) || gated_off(params.gate_q, i);
  if (whole) {
    for (int64_t j = 0; j < n; ++j) set_bit(row, j, true);
    return;
  }
  const TensorView& scores = params.scores;
  const float* z =
      scores.as<float>() + b * scores.stride[0] + h * scores.stride[1] + i * scores.stride[2];
  for (int64_t j = 0; j < n; ++j) {
    scratch.p[j] = gated_off(params.gate_kv, j) ? kNegativeInfinity : usable(z[j]);
  }
  softmax(scratch.p, n);
  if (params.rule == SelectRule::kDropCdf) {
    const int64_t dropped = drop_cdf(scratch.p, n, params.parameter, scratch.entries);
    for (int64_t r = dropped; r < n; ++r) set_bit(row, scratch.entries[r].index, true);
  } else {
    const int64_t kept = keep_largest(params.rule, scratch.p, n, params.parameter, scratch.entries);
    for (int64_t r = 0; r < kept; ++r) set_bit(row, scratch.entries[r].index, true);
  }
  for (int64_t j = 0; j < n; ++j) {
    if (params.keep_kv.contains(static_cast<int>(j)) || gated_off(params.gate_kv, j)) {
      set_bit(row, j, true);
    }
  }
}

// u_i and w_i of the vision blocks, in order, into u and w; `index` maps them back to query blocks.
int64_t text_scores(const SelectCachedRowsParams& params, int64_t b, int64_t h, double* u,
                    double* w, int32_t* index) {
  const SymbolGeometry& g = params.symbols.geometry;
  const TensorView& scores = params.scores;
  const float* z = scores.as<float>() + b * scores.stride[0] + h * scores.stride[1];
  const auto score = [&](int64_t i, int64_t j) { return double{z[i * scores.stride[2] + j]}; };
  int64_t n = 0;
  for (int i = 0; i < g.num_q_blocks(); ++i) {
    if (params.text_q.contains(i)) continue;
    // Kv blocks that hold tokens of query block i; with fewer key tokens than queries, the last.
    const int last_block = g.num_kv_blocks() - 1;
    const int last_token = std::min((i + 1) * g.block_q, g.q_tokens) - 1;
    const int first = std::min(i * g.block_q / g.block_kv, last_block);
    const int last = std::min(last_token / g.block_kv, last_block);
    u[n] = 0;
    for (int r = params.text_q.begin; r < params.text_q.end; ++r) {
      for (int j = first; j <= last; ++j) u[n] += score(r, j);
    }
    w[n] = 0;
    for (int j = params.text_kv.begin; j < params.text_kv.end; ++j) w[n] += score(i, j);
    u[n] = usable(u[n]);
    w[n] = usable(w[n]);
    index[n++] = i;
  }
  return n;
}

}  // namespace

size_t select_scratch_bytes(int64_t blocks) {
  return SelectScratch::bytes(blocks);
}

void select_cached_rows(const Context& context, void* scratch,
                        const SelectCachedRowsParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t blocks = std::max(g.num_q_blocks(), g.num_kv_blocks());
  const size_t scratch_bytes = select_scratch_bytes(blocks);
  context.pool.run(int64_t{g.batch} * g.heads, [&](int64_t group, int worker) {
    const int64_t b = group / g.heads, h = group % g.heads;
    const SelectScratch own(
        static_cast<char*>(scratch) + scratch_bytes * static_cast<size_t>(worker), blocks);
    double* const u = own.p;
    double* const w = own.q;

    uint64_t* row = params.symbols.c + group * g.c_words();
    std::fill_n(row, g.c_words(), 0);
    for (int i = 0; i < g.num_q_blocks(); ++i) set_bit(row, i, true);
    if (params.theta < 0 || params.text_q.size() == 0 || params.text_kv.size() == 0) return;
    const int64_t n = text_scores(params, b, h, u, w, own.index);
    if (n == 0) return;
    if (params.mode == TextScoreMode::kSoftmaxOfSum) {
      for (int64_t i = 0; i < n; ++i) u[i] = usable(u[i] + w[i]);
      softmax(u, n);
    } else {
      softmax(u, n);
      softmax(w, n);
      for (int64_t i = 0; i < n; ++i) u[i] = (u[i] + w[i]) / 2;
    }
    const int64_t dropped = drop_cdf(u, n, params.theta, own.entries);
    for (int64_t r = 0; r < dropped; ++r) {
      const int64_t i = own.index[own.entries[r].index];
      const TensorView& gate = params.gate_q;
      const bool gated_off =
          gate && gate.as<uint8_t>()[b * gate.stride[0] + h * gate.stride[1] + i] == 0;
      if (!gated_off) set_bit(row, i, false);
    }
  });
}

void select_kv_blocks(const Context& context, void* scratch, const SelectKvBlocksParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t rows = g.num_q_blocks();
  const size_t scratch_bytes = select_scratch_bytes(std::max(g.num_q_blocks(), g.num_kv_blocks()));
  context.pool.run(int64_t{g.batch} * g.heads * rows, [&](int64_t task, int worker) {
    const int64_t group = task / rows, i = task % rows;
    uint64_t* row = params.symbols.s + task * g.s_words();
    std::fill_n(row, g.s_words(), 0);
    if (!get_bit(params.symbols.c + group * g.c_words(), i)) return;
    const SelectScratch row_scratch(
        static_cast<char*>(scratch) + scratch_bytes * static_cast<size_t>(worker),
        g.num_kv_blocks());
    select_row(params, group / g.heads, group % g.heads, i, row_scratch, row);
    if (next_bit(row, 0, g.num_kv_blocks()) == g.num_kv_blocks()) {
      set_bit(row, diagonal_block(g, static_cast<int>(i)), true);
    }
  });
}

}  // namespace flashomni::cpu

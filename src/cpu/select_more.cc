// SPDX-License-Identifier: Apache-2.0
#include "cpu/select_more.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/select.h"
#include "cpu/select_rules.h"

namespace flashomni::cpu {
namespace {

// The k-th smallest (from 1) of the values that for_each hands out. Non-negative floats sort like
// their bits, so halving the range of bits finds it without memory and without an order of ties.
template <class ForEach>
float kth_smallest(int64_t k, const ForEach& for_each) {
  uint32_t low = 0, high = std::bit_cast<uint32_t>(1.f);
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const float value = std::bit_cast<float>(middle);
    int64_t count = 0;
    for_each([&](float p) { count += p <= value; });
    if (count >= k) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return std::bit_cast<float>(low);
}

}  // namespace

void select_rows(const Context& context, void* scratch, const SelectRowsParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t blocks = std::max(g.num_q_blocks(), g.num_kv_blocks());
  const size_t scratch_bytes = select_scratch_bytes(blocks);
  context.pool.run(int64_t{g.batch} * g.heads, [&](int64_t group, int worker) {
    const int64_t b = group / g.heads, h = group % g.heads;
    const SelectScratch own(
        static_cast<char*>(scratch) + scratch_bytes * static_cast<size_t>(worker), blocks);
    uint64_t* row = params.symbols.c + group * g.c_words();
    std::fill_n(row, g.c_words(), 0);
    for (int i = 0; i < g.num_q_blocks(); ++i) set_bit(row, i, true);
    if (!(params.theta >= 0)) return;
    const TensorView& scores = params.scores;
    const float* w = scores.as<float>() + b * scores.stride[0] + h * scores.stride[1];
    int64_t n = 0;
    double sum = 0;
    for (int i = 0; i < g.num_q_blocks(); ++i) {
      if (params.keep.contains(i) || !std::isfinite(w[i]) || w[i] < 0) continue;
      own.p[n] = double{w[i]};
      own.index[n++] = i;
      sum += double{w[i]};
    }
    if (n == 0) return;
    // Rows that are all worth nothing are all worth the same.
    for (int64_t r = 0; r < n; ++r) own.p[r] = sum > 0 ? own.p[r] / sum : 1.0 / double(n);
    const int64_t dropped = drop_cdf(own.p, n, double{params.theta}, own.entries);
    for (int64_t r = 0; r < dropped; ++r) {
      const int64_t i = own.index[own.entries[r].index];
      const TensorView& gate = params.gate_q;
      const bool gated_off =
          gate && gate.as<uint8_t>()[b * gate.stride[0] + h * gate.stride[1] + i] == 0;
      if (!gated_off) set_bit(row, i, false);
    }
  });
}

void select_kv_share(const Context& context, const SelectKvShareParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t nq = g.num_q_blocks(), nkv = g.num_kv_blocks();
  const TensorView& z = params.scores;
  context.pool.run(int64_t{g.batch} * g.heads, [&](int64_t group, int) {
    float* const scores =
        z.as<float>() + group / g.heads * z.stride[0] + group % g.heads * z.stride[1];
    const uint64_t* c = params.symbols.c + group * g.c_words();
    const auto free_row = [&](int64_t i) {
      return get_bit(c, i) && !params.keep_q.contains(static_cast<int>(i));
    };
    const auto free_column = [&](int64_t j) {
      return !params.keep_kv.contains(static_cast<int>(j));
    };
    // Scores become weights in place.
    int64_t entries = 0;
    for (int64_t i = 0; i < nq; ++i) {
      if (!free_row(i)) continue;
      float* const row = scores + i * z.stride[2];
      double top = kNegativeInfinity, sum = 0;
      for (int64_t j = 0; j < nkv; ++j) {
        if (free_column(j)) top = std::max(top, usable(double{row[j]}));
      }
      const auto weight = [&](float x) {
        const double s = usable(double{x});
        return s == top ? 1.0 : std::exp(s - top);
      };
      for (int64_t j = 0; j < nkv; ++j) {
        if (free_column(j)) sum += weight(row[j]);
      }
      for (int64_t j = 0; j < nkv; ++j) {
        if (!free_column(j)) continue;
        row[j] = static_cast<float>(weight(row[j]) / sum);
        ++entries;
      }
    }
    const auto for_each = [&](const auto& use) {
      for (int64_t i = 0; i < nq; ++i) {
        if (!free_row(i)) continue;
        for (int64_t j = 0; j < nkv; ++j) {
          if (free_column(j)) use(scores[i * z.stride[2] + j]);
        }
      }
    };
    const auto k = static_cast<int64_t>(std::floor(double{params.share} * double(entries)));
    const float threshold = k > 0 ? kth_smallest(std::min(k, entries), for_each) : 0.f;
    for (int64_t i = 0; i < nq; ++i) {
      uint64_t* bits = params.symbols.s + (group * nq + i) * g.s_words();
      std::fill_n(bits, g.s_words(), 0);
      if (!get_bit(c, i)) continue;
      for (int64_t j = 0; j < nkv; ++j) {
        const bool kept =
            !free_row(i) || !free_column(j) || scores[i * z.stride[2] + j] >= threshold;
        if (kept) set_bit(bits, j, true);
      }
      if (next_bit(bits, 0, nkv) == nkv) {
        set_bit(bits, diagonal_block(g, static_cast<int>(i)), true);
      }
    }
  });
}

void select_pattern(const Context& context, const SelectPatternParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t nq = g.num_q_blocks(), nkv = g.num_kv_blocks(), words = g.s_words();
  const TensorView& z = params.scores;
  context.pool.run(int64_t{g.batch} * g.heads, [&](int64_t group, int) {
    const float* scores =
        z.as<float>() + group / g.heads * z.stride[0] + group % g.heads * z.stride[1];
    const uint64_t* c = params.symbols.c + group * g.c_words();
    int best = 0;
    double best_mass = -1;
    for (int p = 0; p < params.count; ++p) {
      const uint64_t* pattern = params.patterns + int64_t{p} * nq * words;
      double mass = 0;
      for (int64_t i = 0; i < nq; ++i) {
        if (!get_bit(c, i) || params.keep_q.contains(static_cast<int>(i))) continue;
        const float* row = scores + i * z.stride[2];
        double top = kNegativeInfinity, sum = 0, kept = 0;
        for (int64_t j = 0; j < nkv; ++j) top = std::max(top, usable(double{row[j]}));
        for (int64_t j = 0; j < nkv; ++j) {
          const double s = usable(double{row[j]});
          const double weight = s == top ? 1.0 : std::exp(s - top);
          sum += weight;
          if (get_bit(pattern + i * words, j)) kept += weight;
        }
        mass += kept / sum;
      }
      if (mass > best_mass) {
        best = p;
        best_mass = mass;
      }
    }
    const TensorView& choice = params.choice;
    if (choice) {
      choice.as<int32_t>()[group / g.heads * choice.stride[0] + group % g.heads] = best;
    }
    const uint64_t* pattern = params.patterns + int64_t{best} * nq * words;
    for (int64_t i = 0; i < nq; ++i) {
      uint64_t* bits = params.symbols.s + (group * nq + i) * words;
      if (get_bit(c, i)) {
        std::copy_n(pattern + i * words, words, bits);
      } else {
        std::fill_n(bits, words, 0);
      }
    }
  });
}

void keep_columns(const Context& context, const KeepColumnsParams& params) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t nq = g.num_q_blocks();
  context.pool.run(int64_t{g.batch} * g.heads, [&](int64_t group, int) {
    const uint64_t* c = params.symbols.c + group * g.c_words();
    for_each_bit(c, nq, [&](int64_t i) {
      uint64_t* bits = params.symbols.s + (group * nq + i) * g.s_words();
      for (int j = params.keep.begin; j < params.keep.end; ++j) set_bit(bits, j, true);
    });
  });
}

}  // namespace flashomni::cpu

// SPDX-License-Identifier: Apache-2.0
//
// A projection's task where few heads are active: one symbol block of rows times a group of panels,
// all its active heads in one product. Blocks then hardly share heads, so there is nothing to gain
// from reading the weight for several of them, and results never wait in memory between features.
#pragma once

#include <algorithm>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/projection_data.h"

namespace flashomni::cpu {

class RowsTask {
 public:
  // Rows are staged where the other way keeps its tiles, `stage_stride` apart.
  static int64_t stage_stride(int64_t rows) { return Scratch::kTileFloats / rows / 16 * 16; }
  // Most features that the product of so many rows can have.
  static int64_t max_features(int64_t rows) {
    return std::min(Scratch::kWidenedRows, stage_stride(rows));
  }

  RowsTask(const KernelTable& kernels, const Projection& p, const Scratch& scratch, int64_t b,
           int64_t row_begin, int64_t row_end, int64_t symbol_row)
      : kernels_(kernels),
        p_(p),
        scratch_(scratch),
        b_(b),
        row_(row_begin),
        rows_(row_end - row_begin) {
    find_heads(symbol_row);
    place_rows();
  }

  void run(int64_t panel_begin, int64_t panel_end) {
    for (int64_t first = panel_begin; first < panel_end; first += kFinishedPanels) {
      const int64_t last = std::min(panel_end, first + kFinishedPanels);
      expect_result(p_, b_, row_, rows_, first, last, coming_);
      for (int64_t panel = first; panel < last; ++panel) {
        if (panel + 1 < panel_end) expect_weight(panel + 1);
        multiply(panel, scratch_.staged + (panel - first) * rows_ * kernels_.panel);
      }
      finish_rows(kernels_, p_, b_, row_, rows_, first, last,
                  num_runs_ > 0 ? scratch_.staged : nullptr, rows_ * kernels_.panel);
    }
  }

 private:
  static constexpr int kMaxRuns = 64;
  // Neighbouring active heads: features [k, k + length) of the weight.
  struct Run {
    int64_t k;
    int64_t length;
  };

  void find_heads(int64_t symbol_row) {
    const ConstSymbolsView symbols(p_.symbols);
    for (int h = 0; h < p_.heads; ++h) {
      if (!get_bit(symbols.c_row(static_cast<int>(b_) * p_.heads + h), symbol_row)) continue;
      const int64_t k = int64_t{h} * p_.head_dim;
      Run* last = num_runs_ > 0 ? &runs_[num_runs_ - 1] : nullptr;
      if (last && last->k + last->length == k && p_.head_stride == p_.head_dim &&
          last->length + p_.head_dim <= block_k(kernels_)) {
        last->length += p_.head_dim;
      } else {
        runs_[num_runs_++] = {k, p_.head_dim};
      }
    }
  }

  // The left factors, copied side by side where products take another type.
  void place_rows() {
    const Rows& source = p_.sources[0];
    lda_ = source.row_stride;
    const bool staging = stages(kernels_);
    if (staging) lda_ = stage_stride(rows_);
    float* staged = scratch_.tiles;
    for (int i = 0; i < num_runs_; ++i) {
      const Run& run = runs_[i];
      const float* a = source.at(b_, row_) + run.k / p_.head_dim * p_.head_stride;
      spans_[i] = {a, nullptr, run.length};
      if (!staging) continue;
      kernels_.stage_rows(a, source.row_stride, rows_, run.length, staged, lda_);
      spans_[i].a = staged;
      // In bf16 that is room for the zeros behind the run, too (see is_sparse()).
      staged += run.length;
    }
  }

  void expect_weight(int64_t panel) {
    for (int i = 0; i < std::min(num_runs_, PrefetchQueue::kMostRightFactors); ++i) {
      coming_.set(PrefetchQueue::kRightFactor + i, p_.weight->stored(panel, runs_[i].k),
                  p_.weight->row_bytes(runs_[i].length));
    }
  }

  void multiply(int64_t panel, float* c) {
    if (num_runs_ == 0) return;
    float* widened = scratch_.widened;
    for (int i = 0; i < num_runs_; ++i) {
      spans_[i].b = p_.weight->rows(panel, runs_[i].k, runs_[i].length, widened);
      widened += runs_[i].length * kernels_.panel;
    }
    // As many features at a time as fit L1 with the panel.
    for (int i = 0; i < num_runs_;) {
      int64_t features = 0;
      int last = i;
      do {
        features += spans_[last++].k;
      } while (last < num_runs_ && features + spans_[last].k <= block_k(kernels_));
      kernels_.gemm(spans_ + i, last - i, lda_, static_cast<int>(rows_), p_.weight->columns(panel),
                    c, i > 0, &coming_);
      i = last;
    }
  }

  const KernelTable& kernels_;
  const Projection& p_;
  const Scratch& scratch_;
  const int64_t b_;
  const int64_t row_;
  const int64_t rows_;
  Run runs_[kMaxRuns];
  GemmSpan spans_[kMaxRuns];
  int num_runs_ = 0;
  int64_t lda_ = 0;
  PrefetchQueue coming_;
};

}  // namespace flashomni::cpu

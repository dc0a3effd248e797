// SPDX-License-Identifier: Apache-2.0
//
// A projection's usual task: a chunk of rows times a group of panels. Features come in stretches
// that fit L1 as a panel's rows, so that the weight is read once for all rows of the chunk.
#pragma once

#include <algorithm>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/projection_data.h"

namespace flashomni::cpu {

// What the thread will most likely do after a task.
struct Following {
  const char* weight = nullptr;  // its first features of its first panel
  const float* rows = nullptr;   // and of its rows, if they are others than now
  int64_t num_rows = 0;
};

class ChunkTask {
 public:
  ChunkTask(const KernelTable& kernels, const Projection& p, const RowBlocks& blocks,
            const Scratch& scratch, int64_t b, int64_t chunk, int64_t panel_begin,
            int64_t panel_end, const Following& following)
      : kernels_(kernels),
        block_k_(block_k(kernels)),
        p_(p),
        scratch_(scratch),
        b_(b),
        panel_begin_(panel_begin),
        panel_end_(panel_end),
        following_(following) {
    for (int64_t i = blocks.chunk_begin(chunk); i < blocks.chunk_end(chunk); ++i) {
      blocks_[num_blocks_++] = {blocks.begin(i), blocks.end(i), blocks.symbol_row(i)};
    }
  }

  void run() {
    const int64_t row = blocks_[0].begin;
    expect_result(p_, b_, row, blocks_[num_blocks_ - 1].end - row, panel_begin_, panel_end_,
                  coming_);
    const int streams = 1 + (p_.update ? p_.num_planes : 0);
    // A few heads at a time in all streams, which then find the weight in a cache.
    const int step = static_cast<int>(std::max<int64_t>(1, block_k_ / std::max(1, p_.head_dim)));
    for (int h = 0; h < p_.heads; h += step) {
      const int end = std::min(p_.heads, h + step);
      for (int stream = 0; stream < streams; ++stream) add_heads(stream, h, end);
    }
    const BlockSet all = (BlockSet{1} << num_blocks_) - 1;
    for (int64_t k = 0; k < p_.tail_width; k += block_k_) {
      multiply(0, all, p_.heads * int64_t{p_.head_dim} + k, std::min(block_k_, p_.tail_width - k),
               p_.tail.at(b_, 0) + k, p_.tail.row_stride);
    }
    for (int i = 0; i < num_blocks_; ++i) {
      const Block& block = blocks_[i];
      if (p_.update) store_planes(block);
      if (block.finished) continue;
      finish(block.begin, block.end - block.begin, block.started[0], panel_begin_, panel_end_);
    }
  }

 private:
  struct Block {
    int64_t begin, end;  // rows of the segment
    int64_t symbol_row;
    bool started[kMaxStreams] = {};  // whether the stream's tile holds anything yet
    bool finished = false;
  };
  // Of the chunk, as bits.
  using BlockSet = uint32_t;
  // Neighbouring blocks [first, last).
  struct Run {
    int first, last;
  };

  float* tile(int stream, int64_t panel, int64_t row) const {
    const int64_t index = stream * (panel_end_ - panel_begin_) + panel - panel_begin_;
    return scratch_.tiles + (index * kChunkRows + row - blocks_[0].begin) * kernels_.panel;
  }

  // The blocks in which a head belongs to the stream.
  BlockSet blocks_of(int stream, int head) const {
    BlockSet set = 0;
    for (int i = 0; i < num_blocks_; ++i) {
      bool active = true;
      if (p_.symbols) {
        const ConstSymbolsView symbols(p_.symbols);
        const int group = static_cast<int>(b_) * p_.heads + head;
        active = get_bit(symbols.c_row(group), blocks_[i].symbol_row);
      }
      if (active == (stream == 0)) set |= BlockSet{1} << i;
    }
    return set;
  }

  void add_heads(int stream, int begin, int end) {
    const Rows& source = p_.sources[stream == 0 ? 0 : stream - 1];
    for (int h = begin; h < end;) {
      const BlockSet set = blocks_of(stream, h);
      int next = h + 1;
      // Heads side by side in memory and in the same blocks make one longer product.
      while (next < end && p_.head_stride == p_.head_dim && blocks_of(stream, next) == set) ++next;
      for (int64_t k = 0; set != 0 && k < int64_t{next - h} * p_.head_dim; k += block_k_) {
        multiply(stream, set, int64_t{h} * p_.head_dim + k,
                 std::min(block_k_, int64_t{next - h} * p_.head_dim - k),
                 source.at(b_, 0) + h * p_.head_stride + k, source.row_stride);
      }
      h = next;
    }
  }

  // Blocks of the set that touch and have tiles in the same state; returns how many runs.
  int runs_of(int stream, BlockSet set, Run* runs) const {
    int count = 0;
    for (int i = 0; i < num_blocks_; ++i) {
      if ((set >> i & 1) == 0) continue;
      if (count > 0 && runs[count - 1].last == i &&
          blocks_[i - 1].started[stream] == blocks_[i].started[stream]) {
        ++runs[count - 1].last;
      } else {
        runs[count++] = {i, i + 1};
      }
    }
    return count;
  }

  // Adds features [k, k + length), length <= block_k(), to the stream's tiles of a set of blocks;
  // `source` has the first of them for row 0.
  void multiply(int stream, BlockSet set, int64_t k, int64_t length, const float* source,
                int64_t row_stride) {
    Run runs[kMaxChunkBlocks];
    const int num_runs = runs_of(stream, set, runs);
    const int64_t origin = blocks_[0].begin;
    const float* a = source + origin * row_stride;
    int64_t lda = row_stride;
    if (stages(kernels_)) {
      for (int i = 0; i < num_runs; ++i) {
        const int64_t begin = blocks_[runs[i].first].begin - origin;
        const int64_t end = blocks_[runs[i].last - 1].end - origin;
        kernels_.stage_rows(a + begin * row_stride, row_stride, end - begin, length,
                            scratch_.staged + begin * kStageStride, kStageStride);
      }
      a = scratch_.staged;
      lda = kStageStride;
    }
    expect_features(k + length, source + origin * row_stride + length, row_stride);
    // The last product of its rows also finishes them, unless planes must be written first.
    const bool finishes = k + length == p_.weight->in_features() && stream == 0 && !p_.update;
    for (int64_t panel = panel_begin_; panel < panel_end_; ++panel) {
      const GemmSpan span{nullptr, p_.weight->rows(panel, k, length, scratch_.widened), length};
      expect_weight(panel + 1, k, length);
      for (int i = 0; i < num_runs; ++i) {
        const Block& block = blocks_[runs[i].first];
        GemmSpan rows = span;
        rows.a = a + (block.begin - origin) * lda;
        const int height = static_cast<int>(blocks_[runs[i].last - 1].end - block.begin);
        kernels_.gemm(&rows, 1, lda, height, p_.weight->columns(panel),
                      tile(stream, panel, block.begin), block.started[stream], &coming_);
      }
      const int64_t group = (panel - panel_begin_) / kFinishedPanels * kFinishedPanels;
      const int64_t begin = panel_begin_ + group;
      if (!finishes || panel + 1 < std::min(begin + kFinishedPanels, panel_end_)) continue;
      for (int i = 0; i < num_runs; ++i) {
        const int64_t row = blocks_[runs[i].first].begin;
        finish(row, blocks_[runs[i].last - 1].end - row, true, begin, panel + 1);
      }
    }
    for (int i = 0; i < num_blocks_; ++i) {
      blocks_[i].started[stream] |= (set >> i & 1) != 0;
      blocks_[i].finished |= finishes && (set >> i & 1) != 0;
    }
  }

  // Features [k, k + length) of a panel; after the last panel come the next features of the first.
  void expect_weight(int64_t panel, int64_t k, int64_t length) {
    const CpuPackedWeight& w = *p_.weight;
    const char* next = w.stored(panel, k);
    if (panel == panel_end_) {
      const bool last = k + length == w.in_features();
      next = last ? following_.weight : w.stored(panel_begin_, k + length);
      length = std::min(block_k_, last ? w.in_features() : w.in_features() - k - length);
    }
    if (next) coming_.set(PrefetchQueue::kRightFactor, next, w.row_bytes(length));
  }

  // The left factor's features from k on, which lie at `source` for the first row. Heads come and
  // go with the symbols, so only linear layers know what is next.
  void expect_features(int64_t k, const float* source, int64_t row_stride) {
    if (p_.heads > 0) return;
    const int64_t in = p_.weight->in_features();
    int64_t rows = blocks_[num_blocks_ - 1].end - blocks_[0].begin;
    if (k == in) {
      k = 0;
      source = following_.rows;
      rows = following_.num_rows;
    }
    coming_.set(PrefetchQueue::kLeftFactor, source, std::min(block_k_, in - k) * kFloatBytes, rows,
                row_stride * kFloatBytes);
  }

  void finish(int64_t row, int64_t rows, bool has_product, int64_t begin, int64_t end) const {
    finish_rows(kernels_, p_, b_, row, rows, begin, end,
                has_product ? tile(0, begin, row) : nullptr, kChunkRows * kernels_.panel);
  }

  // The planes of an update, of one block.
  void store_planes(const Block& block) const {
    const int64_t col = panel_begin_ * kernels_.panel;
    for (int m = 0; m < p_.num_planes; ++m) {
      EpilogueArgs e;
      e.c = block.started[1 + m] ? tile(1 + m, panel_begin_, block.begin) : nullptr;
      e.panel_stride = kChunkRows * kernels_.panel;
      e.rows = static_cast<int>(block.end - block.begin);
      e.cols =
          static_cast<int>(std::min(panel_end_ * kernels_.panel, p_.weight->out_features()) - col);
      e.bias = m == 0 ? p_.weight->bias(panel_begin_) : kZeros;
      e.out = p_.planes[m].at(b_, block.begin) + col;
      e.out_stride = p_.planes[m].row_stride;
      kernels_.epilogue(e);
    }
  }

  const KernelTable& kernels_;
  const int64_t block_k_;
  const Projection& p_;
  const Scratch& scratch_;
  const int64_t b_;
  const int64_t panel_begin_;
  const int64_t panel_end_;
  Block blocks_[kMaxChunkBlocks];
  int num_blocks_ = 0;
  const Following following_;
  PrefetchQueue coming_;
};

}  // namespace flashomni::cpu

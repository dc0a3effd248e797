// SPDX-License-Identifier: Apache-2.0
#include "cpu/gemm_q.h"

#include <algorithm>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/packed_weight.h"
#include "cpu/row_blocks.h"

namespace flashomni::cpu {
namespace {

// Memory of one thread. Heads share the tiles as far as they fit.
struct Scratch {
  float* tiles;    // [panels of the heads][kChunkRows][panel]
  float* staged;   // [kChunkRows][kStageStride]
  float* widened;  // [kBlockK][panel]

  // A head's last panel may stick out.
  static int64_t columns(int panel) { return kGroupColumns + panel; }
  static size_t bytes(int panel) {
    return float_bytes(kChunkRows * columns(panel)) + float_bytes(kChunkRows * kStageStride) +
           float_bytes(kBlockK * panel);
  }
  Scratch(void* memory, int panel) {
    Arena arena(memory);
    tiles = arena.take<float>(kChunkRows * columns(panel));
    staged = arena.take<float>(kChunkRows * kStageStride);
    widened = arena.take<float>(kBlockK * panel);
  }
};

// Neighbouring blocks in which a head is active: rows [begin, end) of the segment.
struct RowRun {
  int64_t begin, end;
};

// Heads whose tiles fit the scratch together.
int64_t heads_that_fit(int64_t head_columns) {
  return std::max<int64_t>(1, kGroupColumns / head_columns);
}
constexpr int kMaxHeadsTogether = kGroupColumns / 8;

// One task: a chunk of rows times a range of heads.
class GemmQTask {
 public:
  GemmQTask(const KernelTable& kernels, const GemmQParams& params, const RowBlocks& blocks,
            const Scratch& scratch, int64_t b, int64_t chunk)
      : kernels_(kernels),
        block_k_(block_k(kernels)),
        params_(params),
        weight_(*cpu_weight(params.weight)),
        blocks_(blocks),
        scratch_(scratch),
        b_(b),
        chunk_(chunk),
        row_begin_(blocks.begin(blocks.chunk_begin(chunk))),
        row_end_(blocks.end(blocks.chunk_end(chunk) - 1)) {}

  // As many active heads at a time as fit: staged rows are then used often.
  void run(int head_begin, int head_end) {
    const int64_t most = std::min<int64_t>(
        heads_that_fit(weight_.panels_per_group() * kernels_.panel), kMaxHeadsTogether);
    for (int h = head_begin; h < head_end;) {
      num_heads_ = 0;
      for (; h < head_end && num_heads_ < most; ++h) add_head(h);
      if (num_heads_ == 0) return;
      expect_results();
      const int64_t in = params_.x.size(2);
      for (int64_t k = 0; k < in; k += block_k_) multiply(k, std::min(in, k + block_k_));
    }
  }

 private:
  struct Head {
    int index;
    int num_runs;
    RowRun runs[kMaxChunkBlocks];
  };

  // Unless it is active nowhere in the chunk.
  void add_head(int h) {
    Head& head = heads_[num_heads_];
    head.index = h;
    head.num_runs = 0;
    for (int64_t i = blocks_.chunk_begin(chunk_); i < blocks_.chunk_end(chunk_); ++i) {
      if (params_.symbols) {
        const ConstSymbolsView symbols(params_.symbols);
        const int group = static_cast<int>(b_) * symbols.geometry.heads + h;
        if (!get_bit(symbols.c_row(group), blocks_.symbol_row(i))) continue;
      }
      if (head.num_runs > 0 && head.runs[head.num_runs - 1].end == blocks_.begin(i)) {
        head.runs[head.num_runs - 1].end = blocks_.end(i);
      } else {
        head.runs[head.num_runs++] = {blocks_.begin(i), blocks_.end(i)};
      }
    }
    num_heads_ += head.num_runs > 0;
  }

  float* tile(int i, int64_t panel, int64_t row) const {
    const int64_t index = i * weight_.panels_per_group() + panel;
    return scratch_.tiles + (index * kChunkRows + row - row_begin_) * kernels_.panel;
  }

  float* out_row(int h, int64_t token) const {
    const TensorView& out = params_.out;
    return out.as<float>() + b_ * out.stride[0] + token * out.stride[1] + h * out.stride[2];
  }

  // The outputs are on their way during the products.
  void expect_results() {
    const TensorView& out = params_.out;
    int slot = PrefetchQueue::kResults;
    const int last = PrefetchQueue::kResults + PrefetchQueue::kMostResults;
    for (int i = 0; i < num_heads_ && slot < last; ++i) {
      const Head& head = heads_[i];
      for (int r = 0; r < head.num_runs && slot < last; ++r) {
        const RowRun& run = head.runs[r];
        coming_.set(slot++, out_row(head.index, params_.token_offset + run.begin), out.size(3) * 4,
                    run.end - run.begin, out.stride[1] * 4);
      }
    }
  }

  // Copies columns [k, k_end) of the rows that some head needs.
  void stage(const float* a, int64_t lda, int64_t width) const {
    for (int64_t i = blocks_.chunk_begin(chunk_); i < blocks_.chunk_end(chunk_); ++i) {
      if (!needed(i)) continue;
      const int64_t row = blocks_.begin(i) - row_begin_;
      kernels_.stage_rows(a + row * lda, lda, blocks_.end(i) - blocks_.begin(i), width,
                          scratch_.staged + row * kStageStride, kStageStride);
    }
  }

  bool needed(int64_t block) const {
    const int64_t row = blocks_.begin(block);
    for (int i = 0; i < num_heads_; ++i) {
      for (int r = 0; r < heads_[i].num_runs; ++r) {
        if (heads_[i].runs[r].begin <= row && row < heads_[i].runs[r].end) return true;
      }
    }
    return false;
  }

  void multiply(int64_t k, int64_t k_end) {
    const TensorView& x = params_.x;
    const int64_t in = x.size(2);
    const float* a = x.as<float>() + b_ * x.stride[0] + row_begin_ * x.stride[1] + k;
    int64_t lda = x.stride[1];
    if (k_end < in) {
      coming_.set(PrefetchQueue::kLeftFactor, a + (k_end - k), std::min(block_k_, in - k_end) * 4,
                  row_end_ - row_begin_, lda * 4);
    }
    if (stages(kernels_)) {
      stage(a, lda, k_end - k);
      a = scratch_.staged;
      lda = kStageStride;
    }
    const int64_t panels = weight_.panels_per_group();
    for (int64_t p = 0; p < num_heads_ * panels; ++p) {
      const Head& head = heads_[p / panels];
      GemmSpan span;
      span.b = weight_.rows(weight_panel(p), k, k_end - k, scratch_.widened);
      span.k = k_end - k;
      expect_weight(p + 1, k, k_end);
      for (int r = 0; r < head.num_runs; ++r) {
        const RowRun& run = head.runs[r];
        span.a = a + (run.begin - row_begin_) * lda;
        kernels_.gemm(&span, 1, lda, static_cast<int>(run.end - run.begin),
                      weight_.columns(weight_panel(p)),
                      tile(static_cast<int>(p / panels), p % panels, run.begin), k > 0, &coming_);
      }
      // A head at a time, so that memory takes it while the next one multiplies.
      if (k_end == in && p % panels == panels - 1) finish(static_cast<int>(p / panels));
    }
  }

  // Panel p of the heads' panels in the weight.
  int64_t weight_panel(int64_t p) const {
    const int64_t panels = weight_.panels_per_group();
    return heads_[p / panels].index * panels + p % panels;
  }

  void expect_weight(int64_t p, int64_t k, int64_t k_end) {
    if (p == num_heads_ * weight_.panels_per_group()) {
      p = 0;
      k = k_end;
      k_end = std::min(params_.x.size(2), k + block_k_);
    }
    if (k < k_end) {
      coming_.set(PrefetchQueue::kRightFactor, weight_.stored(weight_panel(p), k),
                  weight_.row_bytes(k_end - k));
    }
  }

  void finish(int i) const {
    const Head& head = heads_[i];
    const TensorView& out = params_.out;
    for (int r = 0; r < head.num_runs; ++r) {
      const int64_t row = head.runs[r].begin;
      const int64_t token = params_.token_offset + row;
      HeadEpilogueArgs e;
      e.c = tile(i, 0, row);
      e.panel_stride = kChunkRows * kernels_.panel;
      e.rows = static_cast<int>(head.runs[r].end - row);
      e.head_dim = static_cast<int>(out.size(3));
      e.bias = weight_.bias(head.index * weight_.panels_per_group());
      e.rms_weight = params_.rms_weight.as<float>();
      e.rms_eps = params_.rms_eps;
      if (params_.rope) {
        e.cos = params_.rope.cos.as<float>() + token * params_.rope.cos.stride[0];
        e.sin = params_.rope.sin.as<float>() + token * params_.rope.sin.stride[0];
        e.cos_stride = params_.rope.cos.stride[0];
        e.sin_stride = params_.rope.sin.stride[0];
      }
      e.out = out_row(head.index, token);
      e.out_stride = out.stride[1];
      kernels_.head_epilogue(e);
    }
  }

  const KernelTable& kernels_;
  const int64_t block_k_;
  const GemmQParams& params_;
  const CpuPackedWeight& weight_;
  const RowBlocks& blocks_;
  const Scratch& scratch_;
  const int64_t b_;
  const int64_t chunk_;
  const int64_t row_begin_;  // of the chunk
  const int64_t row_end_;
  Head heads_[kMaxHeadsTogether];
  int num_heads_ = 0;
  PrefetchQueue coming_;
};

}  // namespace

size_t gemm_q_workspace_bytes(const Context& context) {
  return kAlignment +
         Scratch::bytes(context.kernels.panel) * static_cast<size_t>(context.pool.size());
}

void gemm_q(const Context& context, void* workspace, const GemmQParams& params) {
  const int64_t batch = params.x.size(0);
  const int64_t rows = params.x.size(1);
  if (batch * rows == 0) return;
  const int64_t chunk_rows = rows_per_chunk(rows, batch, context.pool.size());
  const RowBlocks blocks = params.symbols ? RowBlocks(rows, chunk_rows, params.token_offset,
                                                      params.symbols.geometry.block_q)
                                          : RowBlocks(rows, chunk_rows);
  const int panel = context.kernels.panel;
  const int64_t heads = params.out.size(2);
  const int64_t chunks = batch * blocks.num_chunks();
  const int64_t group = items_per_task(heads, heads, chunks, context.pool.size());
  const int64_t groups = ceil_div(heads, group);
  const size_t scratch_bytes = Scratch::bytes(panel);
  char* scratch_base = Arena(workspace).take<char>(0);
  context.pool.run(chunks * groups, [&](int64_t task, int worker) {
    const int64_t chunk = task / groups;
    const int64_t begin = task % groups * group;
    const Scratch scratch(scratch_base + scratch_bytes * static_cast<size_t>(worker), panel);
    GemmQTask(context.kernels, params, blocks, scratch, chunk / blocks.num_chunks(),
              chunk % blocks.num_chunks())
        .run(static_cast<int>(begin), static_cast<int>(std::min(heads, begin + group)));
  });
}

}  // namespace flashomni::cpu

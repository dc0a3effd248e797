// SPDX-License-Identifier: Apache-2.0
#include "cpu/gemm_q.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/packed_weight.h"
#include "cpu/row_blocks.h"

namespace flashomni::cpu {
namespace {

// Memory of one thread. A head of up to 256 columns is one task's tile; smaller heads share it.
struct Scratch {
  float* tiles;    // [panels of the task][kChunkRows][panel]
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

// One task: a chunk of rows times a group of heads.
class GemmQTask {
 public:
  GemmQTask(const KernelTable& kernels, const GemmQParams& params, const RowBlocks& blocks,
            const Scratch& scratch, int64_t b, int64_t chunk, int head_begin, int head_end)
      : kernels_(kernels),
        params_(params),
        weight_(*cpu_weight(params.weight)),
        blocks_(blocks),
        scratch_(scratch),
        b_(b),
        chunk_(chunk),
        head_begin_(head_begin),
        head_end_(head_end),
        row_begin_(blocks.begin(blocks.chunk_begin(chunk))) {}

  void run() {
    const int64_t in = params_.x.size(2);
    bool any = false;
    for (int h = head_begin_; h < head_end_; ++h) {
      RowRun runs[kMaxChunkBlocks];
      any |= active_runs(h, runs) > 0;
    }
    if (!any) return;
    for (int64_t k = 0; k < in; k += kBlockK) multiply(k, std::min(in, k + kBlockK));
    for (int h = head_begin_; h < head_end_; ++h) finish(h);
  }

 private:
  int active_runs(int h, RowRun* runs) const {
    int count = 0;
    for (int64_t i = blocks_.chunk_begin(chunk_); i < blocks_.chunk_end(chunk_); ++i) {
      if (params_.symbols) {
        const ConstSymbolsView symbols(params_.symbols);
        const int group = static_cast<int>(b_) * symbols.geometry.heads + h;
        if (!get_bit(symbols.c_row(group), blocks_.symbol_row(i))) continue;
      }
      if (count > 0 && runs[count - 1].end == blocks_.begin(i)) {
        runs[count - 1].end = blocks_.end(i);
      } else {
        runs[count++] = {blocks_.begin(i), blocks_.end(i)};
      }
    }
    return count;
  }

  float* tile(int h, int64_t panel, int64_t row) const {
    const int64_t index = (h - head_begin_) * weight_.panels_per_group() + panel;
    return scratch_.tiles + (index * kChunkRows + row - row_begin_) * kernels_.panel;
  }

  void multiply(int64_t k, int64_t k_end) {
    const TensorView& x = params_.x;
    const float* a = x.as<float>() + b_ * x.stride[0] + row_begin_ * x.stride[1] + k;
    int64_t lda = x.stride[1];
    if (rows_collide(lda)) {
      const int64_t rows = blocks_.end(blocks_.chunk_end(chunk_) - 1) - row_begin_;
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(scratch_.staged + r * kStageStride, a + r * lda,
                    static_cast<size_t>(k_end - k) * sizeof(float));
      }
      a = scratch_.staged;
      lda = kStageStride;
    }
    for (int h = head_begin_; h < head_end_; ++h) {
      RowRun runs[kMaxChunkBlocks];
      const int num_runs = active_runs(h, runs);
      if (num_runs == 0) continue;
      for (int64_t panel = 0; panel < weight_.panels_per_group(); ++panel) {
        GemmSpan span;
        span.b =
            weight_.rows(h * weight_.panels_per_group() + panel, k, k_end - k, scratch_.widened);
        span.k = k_end - k;
        for (int i = 0; i < num_runs; ++i) {
          span.a = a + (runs[i].begin - row_begin_) * lda;
          kernels_.gemm(&span, 1, lda, static_cast<int>(runs[i].end - runs[i].begin),
                        tile(h, panel, runs[i].begin), k > 0);
        }
      }
    }
  }

  void finish(int h) const {
    RowRun runs[kMaxChunkBlocks];
    const int num_runs = active_runs(h, runs);
    const TensorView& out = params_.out;
    for (int i = 0; i < num_runs; ++i) {
      const int64_t row = runs[i].begin;
      const int64_t token = params_.token_offset + row;
      HeadEpilogueArgs e;
      e.c = tile(h, 0, row);
      e.panel_stride = kChunkRows * kernels_.panel;
      e.rows = static_cast<int>(runs[i].end - row);
      e.head_dim = static_cast<int>(out.size(3));
      e.bias = weight_.bias(h * weight_.panels_per_group());
      e.rms_weight = params_.rms_weight.as<float>();
      e.rms_eps = params_.rms_eps;
      if (params_.rope) {
        e.cos = params_.rope.cos.as<float>() + token * params_.rope.cos.stride[0];
        e.sin = params_.rope.sin.as<float>() + token * params_.rope.sin.stride[0];
        e.cos_stride = params_.rope.cos.stride[0];
        e.sin_stride = params_.rope.sin.stride[0];
      }
      e.out = out.as<float>() + b_ * out.stride[0] + token * out.stride[1] + h * out.stride[2];
      e.out_stride = out.stride[1];
      kernels_.head_epilogue(e);
    }
  }

  const KernelTable& kernels_;
  const GemmQParams& params_;
  const CpuPackedWeight& weight_;
  const RowBlocks& blocks_;
  const Scratch& scratch_;
  const int64_t b_;
  const int64_t chunk_;
  const int head_begin_;
  const int head_end_;
  const int64_t row_begin_;  // of the chunk
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
  const RowBlocks blocks =
      params.symbols ? RowBlocks(rows, params.token_offset, params.symbols.geometry.block_q)
                     : RowBlocks(rows);
  const int panel = context.kernels.panel;
  const int64_t heads = params.out.size(2);
  const int64_t head_columns = cpu_weight(params.weight)->panels_per_group() * panel;
  const int64_t chunks = batch * blocks.num_chunks();
  const int64_t group = items_per_task(heads, std::max<int64_t>(1, kGroupColumns / head_columns),
                                       chunks, context.pool.size());
  const int64_t groups = ceil_div(heads, group);
  const size_t scratch_bytes = Scratch::bytes(panel);
  char* scratch_base = Arena(workspace).take<char>(0);
  context.pool.run(chunks * groups, [&](int64_t task, int worker) {
    const int64_t chunk = task / groups;
    const int64_t begin = task % groups * group;
    const Scratch scratch(scratch_base + scratch_bytes * static_cast<size_t>(worker), panel);
    GemmQTask(context.kernels, params, blocks, scratch, chunk / blocks.num_chunks(),
              chunk % blocks.num_chunks(), static_cast<int>(begin),
              static_cast<int>(std::min(heads, begin + group)))
        .run();
  });
}

}  // namespace flashomni::cpu

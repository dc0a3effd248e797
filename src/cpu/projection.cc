// SPDX-License-Identifier: Apache-2.0
#include "cpu/projection.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/packed_weight.h"
#include "cpu/row_blocks.h"

namespace flashomni::cpu {
namespace {

constexpr int kMaxPlanes = GemmOParams::kMaxPlanes;
// Accumulated tiles of a task: active heads, and in the update form one for each plane.
constexpr int kMaxStreams = 1 + kMaxPlanes;

// Rows of f32 by (batch item, row), `row_stride` apart.
struct Rows {
  float* data = nullptr;
  int64_t batch_stride = 0;
  int64_t row_stride = 0;

  Rows() = default;
  // [B, M, ...] or [M, K]
  explicit Rows(const TensorView& v)
      : data(v.as<float>()),
        batch_stride(v.rank == 2 ? 0 : v.stride[0]),
        row_stride(v.stride[v.rank == 2 ? 0 : 1]) {}
  explicit operator bool() const { return data != nullptr; }
  float* at(int64_t b, int64_t row) const { return data + b * batch_stride + row * row_stride; }
};

// One product with all its variants resolved to plain pointers.
struct Projection {
  const CpuPackedWeight* weight = nullptr;
  int64_t batch = 1;
  int64_t rows = 0;
  // Heads: features [0, heads * head_dim) of the weight.
  int heads = 0;
  int head_dim = 0;
  int64_t head_stride = 0;  // the same in all sources
  int num_planes = 0;
  bool update = false;       // planes are written from sources; else read with coefficients
  Rows sources[kMaxPlanes];  // row 0 is the segment's first
  Rows planes[kMaxPlanes];
  float coefficients[kMaxPlanes] = {};
  SymbolsView symbols;  // null: all heads active
  int64_t token_offset = 0;
  // Tail: the features after the heads.
  Rows tail;
  int64_t tail_width = 0;
  // Result.
  Activation activation = Activation::kNone;
  Rows out;
  Rows residual;
  Rows gate;  // "row" 0 of each batch item
};

// Bias of planes that have none.
alignas(kAlignment) constexpr float kZeros[kGroupColumns] = {};

// Memory of one thread.
struct Scratch {
  float* tiles;    // [kMaxStreams][kGroupColumns / panel][kChunkRows][panel]
  float* staged;   // [kChunkRows][kStageStride]
  float* widened;  // [kBlockK][panel]

  static size_t bytes(int panel) {
    return float_bytes(kMaxStreams * kChunkRows * kGroupColumns) +
           float_bytes(kChunkRows * kStageStride) + float_bytes(kBlockK * panel);
  }
  Scratch(void* memory, int panel) {
    Arena arena(memory);
    tiles = arena.take<float>(kMaxStreams * kChunkRows * kGroupColumns);
    staged = arena.take<float>(kChunkRows * kStageStride);
    widened = arena.take<float>(kBlockK * panel);
  }
};

// One task: a chunk of rows times a group of panels.
class ProjectionTask {
 public:
  ProjectionTask(const KernelTable& kernels, const Projection& p, const RowBlocks& blocks,
                 const Scratch& scratch, int64_t b, int64_t chunk, int64_t panel_begin,
                 int64_t panel_end)
      : kernels_(kernels),
        p_(p),
        scratch_(scratch),
        b_(b),
        panel_begin_(panel_begin),
        panel_end_(panel_end) {
    for (int64_t i = blocks.chunk_begin(chunk); i < blocks.chunk_end(chunk); ++i) {
      blocks_[num_blocks_++] = {blocks.begin(i), blocks.end(i), blocks.symbol_row(i)};
    }
  }

  void run() {
    const int streams = 1 + (p_.update ? p_.num_planes : 0);
    // At most 64 heads at a time: a set of them is one word.
    const int step = std::clamp(static_cast<int>(kBlockK / std::max(1, p_.head_dim)), 1, 64);
    for (int h = 0; h < p_.heads; h += step) {
      const int end = std::min(p_.heads, h + step);
      for (int stream = 0; stream < streams; ++stream) add_heads(stream, h, end);
    }
    for (int64_t k = 0; k < p_.tail_width; k += kBlockK) {
      add_tail(k, std::min(p_.tail_width, k + kBlockK));
    }
    for (int i = 0; i < num_blocks_; ++i) finish(blocks_[i]);
  }

 private:
  struct Block {
    int64_t begin, end;  // rows of the segment
    int64_t symbol_row;
    bool started[kMaxStreams] = {};  // whether the stream's tile holds anything yet
  };
  // `length` features of the weight from `k` on; `source` has the first of them for row 0.
  struct Run {
    int64_t k;
    int64_t length;
    const float* source;
  };

  float* tile(int stream, int64_t panel, int64_t row) const {
    const int64_t group = kGroupColumns / kernels_.panel;
    return scratch_.tiles +
           ((stream * group + panel - panel_begin_) * kChunkRows + row - blocks_[0].begin) *
               kernels_.panel;
  }

  // Heads [begin, end) of block i that belong to the stream, as bits.
  uint64_t heads_of(int stream, const Block& block, int begin, int end) const {
    uint64_t set = 0;
    for (int h = begin; h < end; ++h) {
      bool active = true;
      if (p_.symbols) {
        const ConstSymbolsView symbols(p_.symbols);
        const int group = static_cast<int>(b_) * p_.heads + h;
        active = get_bit(symbols.c_row(group), block.symbol_row);
      }
      if (active == (stream == 0)) set |= uint64_t{1} << (h - begin);
    }
    return set;
  }

  void add_heads(int stream, int begin, int end) {
    const Rows& source = p_.sources[stream == 0 ? 0 : stream - 1];
    uint64_t sets[kMaxChunkBlocks];
    for (int i = 0; i < num_blocks_; ++i) sets[i] = heads_of(stream, blocks_[i], begin, end);
    for (int i = 0; i < num_blocks_;) {
      // Neighbouring blocks with the same heads make one taller product.
      int next = i + 1;
      while (next < num_blocks_ && sets[next] == sets[i] &&
             blocks_[next].started[stream] == blocks_[i].started[stream]) {
        ++next;
      }
      Run runs[64];
      int num_runs = 0;
      for (int h = 0; h < end - begin; ++h) {
        if ((sets[i] >> h & 1) == 0) continue;
        const int64_t k = int64_t{begin + h} * p_.head_dim;
        Run* last = num_runs > 0 ? &runs[num_runs - 1] : nullptr;
        if (last && last->k + last->length == k && p_.head_stride == p_.head_dim) {
          last->length += p_.head_dim;
        } else {
          runs[num_runs++] = {k, p_.head_dim, source.at(b_, 0) + (begin + h) * p_.head_stride};
        }
      }
      if (num_runs > 0) multiply(stream, i, next, source.row_stride, runs, num_runs);
      i = next;
    }
  }

  void add_tail(int64_t begin, int64_t end) {
    const Run run{int64_t{p_.heads} * p_.head_dim + begin, end - begin, p_.tail.at(b_, 0) + begin};
    for (int i = 0; i < num_blocks_;) {
      int next = i + 1;
      while (next < num_blocks_ && blocks_[next].started[0] == blocks_[i].started[0]) ++next;
      multiply(0, i, next, p_.tail.row_stride, &run, 1);
      i = next;
    }
  }

  // Adds the runs' products to the stream's tiles of blocks [first, last).
  void multiply(int stream, int first, int last, int64_t row_stride, const Run* runs,
                int num_runs) {
    const int64_t row = blocks_[first].begin;
    const int rows = static_cast<int>(blocks_[last - 1].end - row);
    GemmSpan spans[64];
    int64_t lda = row_stride;
    for (int i = 0; i < num_runs; ++i) {
      spans[i] = {runs[i].source + row * row_stride, nullptr, runs[i].length};
    }
    if (rows_collide(row_stride)) {
      stage(spans, num_runs, row_stride, rows);
      lda = kStageStride;
    }
    const bool accumulate = blocks_[first].started[stream];
    for (int64_t panel = panel_begin_; panel < panel_end_; ++panel) {
      float* widened = scratch_.widened;
      for (int i = 0; i < num_runs; ++i) {
        spans[i].b = p_.weight->rows(panel, runs[i].k, runs[i].length, widened);
        widened += runs[i].length * kernels_.panel;
      }
      kernels_.gemm(spans, num_runs, lda, rows, tile(stream, panel, row), accumulate);
    }
    for (int i = first; i < last; ++i) blocks_[i].started[stream] = true;
  }

  // Copies the spans' left factors side by side and points the spans there.
  void stage(GemmSpan* spans, int num_spans, int64_t row_stride, int rows) const {
    float* dst = scratch_.staged;
    for (int i = 0; i < num_spans; ++i) {
      for (int r = 0; r < rows; ++r) {
        std::memcpy(dst + r * kStageStride, spans[i].a + r * row_stride,
                    static_cast<size_t>(spans[i].k) * sizeof(float));
      }
      spans[i].a = dst;
      dst += spans[i].k;
    }
  }

  // Bias, planes, activation, output and residual of one block.
  void finish(const Block& block) const {
    const int64_t row = block.begin;
    const int64_t col = panel_begin_ * kernels_.panel;
    const int64_t col_end = std::min(panel_end_ * kernels_.panel, p_.weight->out_features());
    const auto at = [&](const Rows& rows) { return rows ? rows.at(b_, row) + col : nullptr; };
    EpilogueArgs e;
    e.panel_stride = kChunkRows * kernels_.panel;
    e.rows = static_cast<int>(block.end - row);
    e.cols = static_cast<int>(col_end - col);
    for (int m = 0; p_.update && m < p_.num_planes; ++m) {
      e.c = block.started[1 + m] ? tile(1 + m, panel_begin_, row) : nullptr;
      e.bias = m == 0 ? p_.weight->bias(panel_begin_) : kZeros;
      e.out = at(p_.planes[m]);
      e.out_stride = p_.planes[m].row_stride;
      kernels_.epilogue(e);
    }
    e.c = block.started[0] ? tile(0, panel_begin_, row) : nullptr;
    e.bias = p_.weight->bias(panel_begin_);
    // The update's own output takes plane 0 just written: its forecast distance is 0.
    e.num_planes = p_.update ? 1 : p_.num_planes;
    for (int m = 0; m < e.num_planes; ++m) {
      e.planes[m] = at(p_.planes[m]);
      e.plane_stride[m] = p_.planes[m].row_stride;
      e.coefficients[m] = p_.update ? 1.f : p_.coefficients[m];
    }
    e.activation = p_.activation;
    e.out = at(p_.out);
    e.out_stride = p_.out.row_stride;
    e.residual = at(p_.residual);
    e.residual_stride = p_.residual.row_stride;
    e.gate = p_.gate ? p_.gate.at(b_, 0) + col : nullptr;
    if (e.out || e.residual) kernels_.epilogue(e);
  }

  const KernelTable& kernels_;
  const Projection& p_;
  const Scratch& scratch_;
  const int64_t b_;
  const int64_t panel_begin_;
  const int64_t panel_end_;
  Block blocks_[kMaxChunkBlocks];
  int num_blocks_ = 0;
};

void run_projection(const Context& context, void* workspace, const Projection& p) {
  if (p.batch * p.rows == 0) return;
  const RowBlocks blocks =
      p.symbols ? RowBlocks(p.rows, p.token_offset, p.symbols.geometry.block_q) : RowBlocks(p.rows);
  const int panel = context.kernels.panel;
  const int64_t panels = p.weight->num_panels();
  const int64_t chunks = p.batch * blocks.num_chunks();
  const int64_t group = items_per_task(panels, kGroupColumns / panel, chunks, context.pool.size());
  const int64_t groups = ceil_div(panels, group);
  const size_t scratch_bytes = Scratch::bytes(panel);
  char* scratch_base = Arena(workspace).take<char>(0);
  // Row chunks outermost: the rows of a chunk stay in cache for its panel groups.
  context.pool.run(chunks * groups, [&](int64_t task, int worker) {
    const int64_t chunk = task / groups;
    const int64_t begin = task % groups * group;
    const Scratch scratch(scratch_base + scratch_bytes * static_cast<size_t>(worker), panel);
    ProjectionTask(context.kernels, p, blocks, scratch, chunk / blocks.num_chunks(),
                   chunk % blocks.num_chunks(), begin, std::min(panels, begin + group))
        .run();
  });
}

// Rows of [B, N, H, d], starting at a token.
Rows head_rows(const TensorView& v, int64_t token) {
  Rows rows(v);
  rows.data += token * rows.row_stride;
  return rows;
}

Rows gate_rows(const TensorView& gate) {
  Rows rows;
  if (!gate) return rows;
  rows.data = gate.as<float>();
  rows.batch_stride = gate.stride[0];
  return rows;
}

// What the two forms of GEMM-O share.
Projection gemm_o_projection(const GemmOParams& params, const TensorView& attn) {
  Projection p;
  p.weight = cpu_weight(params.weight);
  p.batch = attn.size(0);
  p.rows = params.rows;
  p.heads = static_cast<int>(attn.size(2));
  p.head_dim = static_cast<int>(attn.size(3));
  p.head_stride = attn.stride[2];
  p.sources[0] = head_rows(attn, params.token_offset);
  p.symbols = params.symbols;
  p.token_offset = params.token_offset;
  if (params.symbols) {
    p.num_planes = params.num_planes;
    for (int m = 0; m < params.num_planes; ++m) {
      p.planes[m] = head_rows(params.planes[m], params.token_offset);
      p.coefficients[m] = params.coefficients[m];
    }
  }
  if (params.mlp) {
    p.tail = Rows(params.mlp);
    p.tail_width = params.mlp.size(2);
  }
  if (params.out) p.out = Rows(params.out);
  if (params.residual) p.residual = Rows(params.residual);
  p.gate = gate_rows(params.gate);
  return p;
}

}  // namespace

size_t projection_workspace_bytes(const Context& context) {
  return kAlignment +
         Scratch::bytes(context.kernels.panel) * static_cast<size_t>(context.pool.size());
}

void linear(const Context& context, void* workspace, const LinearParams& params) {
  Projection p;
  const TensorView& x = params.x;
  p.weight = cpu_weight(params.weight);
  p.batch = x.rank == 2 ? 1 : x.size(0);
  p.rows = x.size(x.rank - 2);
  p.tail = Rows(x);
  p.tail_width = x.size(x.rank - 1);
  p.activation = params.activation;
  if (params.out) p.out = Rows(params.out);
  if (params.residual) p.residual = Rows(params.residual);
  p.gate = gate_rows(params.gate);
  run_projection(context, workspace, p);
}

void gemm_o(const Context& context, void* workspace, const GemmOParams& params) {
  run_projection(context, workspace, gemm_o_projection(params, params.attn));
}

void gemm_o_update(const Context& context, void* workspace, const GemmOUpdateParams& params) {
  Projection p = gemm_o_projection(params.base, params.factors[0]);
  p.update = true;
  p.num_planes = params.base.num_planes;
  for (int m = 0; m < p.num_planes; ++m) {
    p.sources[m] = head_rows(params.factors[m], params.base.token_offset);
    p.planes[m] = head_rows(params.base.planes[m], params.base.token_offset);
  }
  run_projection(context, workspace, p);
}

}  // namespace flashomni::cpu

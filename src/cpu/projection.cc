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
constexpr int64_t kFloatBytes = sizeof(float);

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

// Panels whose results leave together at the end of their rows: long enough stretches of a row for
// memory, and short enough that it takes them while the next ones multiply.
constexpr int64_t kFinishedPanels = 4;

// Bias of planes that have none.
alignas(kAlignment) constexpr float kZeros[kGroupColumns] = {};

// Memory of one thread.
struct Scratch {
  float* tiles;    // [streams][panels of the task][kChunkRows][panel]
  float* staged;   // [kChunkRows][kStageStride]
  float* widened;  // [kBlockK][panel]

  static size_t bytes(int panel) {
    return float_bytes(kChunkRows * kGroupColumns) + float_bytes(kChunkRows * kStageStride) +
           float_bytes(kBlockK * panel);
  }
  Scratch(void* memory, int panel) {
    Arena arena(memory);
    tiles = arena.take<float>(kChunkRows * kGroupColumns);
    staged = arena.take<float>(kChunkRows * kStageStride);
    widened = arena.take<float>(kBlockK * panel);
  }
};

// What the thread will most likely do after a task.
struct Following {
  const char* weight = nullptr;  // its first features of its first panel
  const float* rows = nullptr;   // and of its rows, if they are others than now
  int64_t num_rows = 0;
};

// One task: a chunk of rows times a group of panels.
class ProjectionTask {
 public:
  ProjectionTask(const KernelTable& kernels, const Projection& p, const RowBlocks& blocks,
                 const Scratch& scratch, int64_t b, int64_t chunk, int64_t panel_begin,
                 int64_t panel_end, const Following& following)
      : kernels_(kernels),
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
    expect_results();
    const int streams = 1 + (p_.update ? p_.num_planes : 0);
    // A few heads at a time in all streams, which then find the weight in a cache.
    const int step = static_cast<int>(std::max<int64_t>(1, kBlockK / std::max(1, p_.head_dim)));
    for (int h = 0; h < p_.heads; h += step) {
      const int end = std::min(p_.heads, h + step);
      for (int stream = 0; stream < streams; ++stream) add_heads(stream, h, end);
    }
    const BlockSet all = (BlockSet{1} << num_blocks_) - 1;
    for (int64_t k = 0; k < p_.tail_width; k += kBlockK) {
      multiply(0, all, p_.heads * int64_t{p_.head_dim} + k, std::min(kBlockK, p_.tail_width - k),
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

  // What finish() reads and writes is on its way during the products.
  void expect_results() {
    const int64_t row = blocks_[0].begin;
    const int64_t rows = blocks_[num_blocks_ - 1].end - row;
    const int64_t col = panel_begin_ * kernels_.panel;
    const int64_t cols = std::min(panel_end_ * kernels_.panel, p_.weight->out_features()) - col;
    int slot = PrefetchQueue::kResults;
    const auto expect = [&](const Rows& r) {
      if (!r || slot == PrefetchQueue::kResults + PrefetchQueue::kMostResults) return;
      coming_.set(slot++, r.at(b_, row) + col, cols * kFloatBytes, rows,
                  r.row_stride * kFloatBytes);
    };
    for (int m = 0; m < p_.num_planes; ++m) expect(p_.planes[m]);
    expect(p_.residual);
    expect(p_.out);
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
      for (int64_t k = 0; set != 0 && k < int64_t{next - h} * p_.head_dim; k += kBlockK) {
        multiply(stream, set, int64_t{h} * p_.head_dim + k,
                 std::min(kBlockK, int64_t{next - h} * p_.head_dim - k),
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

  // Adds features [k, k + length), length <= kBlockK, to the stream's tiles of a set of blocks;
  // `source` has the first of them for row 0.
  void multiply(int stream, BlockSet set, int64_t k, int64_t length, const float* source,
                int64_t row_stride) {
    Run runs[kMaxChunkBlocks];
    const int num_runs = runs_of(stream, set, runs);
    const int64_t origin = blocks_[0].begin;
    const float* a = source + origin * row_stride;
    int64_t lda = row_stride;
    if (rows_collide(row_stride)) {
      for (int i = 0; i < num_runs; ++i) {
        const int64_t end = blocks_[runs[i].last - 1].end - origin;
        for (int64_t r = blocks_[runs[i].first].begin - origin; r < end; ++r) {
          std::memcpy(scratch_.staged + r * kStageStride, a + r * row_stride,
                      static_cast<size_t>(length) * sizeof(float));
        }
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
        kernels_.gemm(&rows, 1, lda, height, tile(stream, panel, block.begin),
                      block.started[stream], &coming_);
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
      length = std::min(kBlockK, last ? w.in_features() : w.in_features() - k - length);
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
    coming_.set(PrefetchQueue::kLeftFactor, source, std::min(kBlockK, in - k) * kFloatBytes, rows,
                row_stride * kFloatBytes);
  }

  // Bias, planes, activation, output and residual of some rows in panels [begin, end).
  void finish(int64_t row, int64_t rows, bool has_product, int64_t begin, int64_t end) const {
    const int64_t col = begin * kernels_.panel;
    const auto at = [&](const Rows& r) { return r ? r.at(b_, row) + col : nullptr; };
    EpilogueArgs e;
    e.c = has_product ? tile(0, begin, row) : nullptr;
    e.panel_stride = kChunkRows * kernels_.panel;
    e.rows = static_cast<int>(rows);
    e.cols = static_cast<int>(std::min(end * kernels_.panel, p_.weight->out_features()) - col);
    e.bias = p_.weight->bias(begin);
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

void run_projection(const Context& context, void* workspace, const Projection& p) {
  if (p.batch * p.rows == 0) return;
  const int panel = context.kernels.panel;
  const int64_t panels = p.weight->num_panels();
  const int streams = 1 + (p.update ? p.num_planes : 0);
  const int64_t most = kGroupColumns / panel / streams;
  const int64_t chunk_rows =
      rows_per_chunk(p.rows, p.batch * ceil_div(panels, most), context.pool.size());
  const RowBlocks blocks =
      p.symbols ? RowBlocks(p.rows, chunk_rows, p.token_offset, p.symbols.geometry.block_q)
                : RowBlocks(p.rows, chunk_rows);
  const int64_t chunks = p.batch * blocks.num_chunks();
  const int64_t group = items_per_task(panels, most, chunks, context.pool.size());
  const int64_t groups = ceil_div(panels, group);
  const size_t scratch_bytes = Scratch::bytes(panel);
  char* scratch_base = Arena(workspace).take<char>(0);
  const int64_t tasks = chunks * groups;
  const auto following = [&](int64_t task) {
    const int64_t next = task + context.pool.size();
    Following f;
    if (next >= tasks || p.heads > 0) return f;
    f.weight = p.weight->stored(next % groups * group, 0);
    if (next / groups != task / groups) {
      const int64_t chunk = next / groups % blocks.num_chunks();
      const int64_t row = blocks.begin(blocks.chunk_begin(chunk));
      f.rows = p.tail.at(next / groups / blocks.num_chunks(), row);
      f.num_rows = blocks.end(blocks.chunk_end(chunk) - 1) - row;
    }
    return f;
  };
  // Row chunks outermost: the rows of a chunk stay in cache for its panel groups.
  context.pool.run(tasks, [&](int64_t task, int worker) {
    const int64_t chunk = task / groups;
    const int64_t begin = task % groups * group;
    const Scratch scratch(scratch_base + scratch_bytes * static_cast<size_t>(worker), panel);
    ProjectionTask(context.kernels, p, blocks, scratch, chunk / blocks.num_chunks(),
                   chunk % blocks.num_chunks(), begin, std::min(panels, begin + group),
                   following(task))
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

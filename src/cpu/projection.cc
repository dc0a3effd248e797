// SPDX-License-Identifier: Apache-2.0
#include "cpu/projection.h"

#include <algorithm>

#include "base/bits.h"
#include "core/symbols_view.h"
#include "cpu/projection_chunk.h"
#include "cpu/projection_data.h"
#include "cpu/projection_rows.h"

namespace flashomni::cpu {
namespace {

// Whether symbols leave so few heads that blocks of rows are best taken one by one, and each
// block's heads fit one product.
bool is_sparse(const KernelTable& kernels, const Projection& p) {
  constexpr double kFewHeads = 0.4;
  constexpr int kMaxHeads = 64;
  if (!p.symbols || p.update || p.tail || p.heads > kMaxHeads) return false;
  // Staged heads in bf16 are filled up to a stretch of features, which must not take more room than
  // in f32.
  if (kernels.products != DType::kF32 && p.head_dim < kFeatureTile / 2) return false;
  const ConstSymbolsView symbols(p.symbols);
  const int64_t block = p.symbols.geometry.block_q;
  const int64_t begin = p.token_offset / block;
  const int64_t end = ceil_div(p.token_offset + p.rows, block);
  int64_t total = 0, most = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t active = 0;
      for (int h = 0; h < p.heads; ++h) {
        active += get_bit(symbols.c_row(static_cast<int>(b) * p.heads + h), i);
      }
      total += active;
      most = std::max(most, active);
    }
  }
  return double(total) <= kFewHeads * double(p.batch * (end - begin) * p.heads) &&
         most * p.head_dim <= RowsTask::max_features(block);
}

void run_sparse(const Context& context, void* workspace, const Projection& p) {
  const int panel = context.kernels.panel;
  const int64_t panels = p.weight->num_panels();
  const RowBlocks blocks(p.rows, 1, p.token_offset, p.symbols.geometry.block_q);
  const int64_t rows = p.batch * blocks.count();
  const int64_t group = items_per_task(panels, panels, rows, context.pool.size());
  const int64_t groups = ceil_div(panels, group);
  const size_t scratch_bytes = Scratch::bytes(panel);
  char* scratch_base = Arena(workspace).take<char>(0);
  context.pool.run(rows * groups, [&](int64_t task, int worker) {
    const int64_t b = task / groups / blocks.count(), i = task / groups % blocks.count();
    const int64_t begin = task % groups * group;
    const Scratch scratch(scratch_base + scratch_bytes * static_cast<size_t>(worker), panel);
    RowsTask(context.kernels, p, scratch, b, blocks.begin(i), blocks.end(i), blocks.symbol_row(i))
        .run(begin, std::min(panels, begin + group));
  });
}

void run_projection(const Context& context, void* workspace, const Projection& p) {
  if (p.batch * p.rows == 0) return;
  if (is_sparse(context.kernels, p)) return run_sparse(context, workspace, p);
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
    ChunkTask(context.kernels, p, blocks, scratch, chunk / blocks.num_chunks(),
              chunk % blocks.num_chunks(), begin, std::min(panels, begin + group), following(task))
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

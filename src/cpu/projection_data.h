// SPDX-License-Identifier: Apache-2.0
//
// What the two ways through a projection share: its operands as plain pointers, a thread's memory,
// and where results go.
#pragma once

#include "cpu/packed_weight.h"
#include "cpu/row_blocks.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

inline constexpr int kMaxPlanes = GemmOParams::kMaxPlanes;
// Accumulated tiles of a task: active heads, and in the update form one for each plane.
inline constexpr int kMaxStreams = 1 + kMaxPlanes;
inline constexpr int64_t kFloatBytes = sizeof(float);

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
inline constexpr int64_t kFinishedPanels = 2;

// Bias of planes that have none.
alignas(kAlignment) inline constexpr float kZeros[kGroupColumns] = {};

// Memory of one thread.
struct Scratch {
  float* tiles;    // [streams][panels of the task][kChunkRows][panel]
  float* staged;   // [kChunkRows][kStageStride]
  float* widened;  // [kWidenedRows][panel]

  static constexpr int64_t kTileFloats = kChunkRows * kGroupColumns;
  static constexpr int64_t kStagedFloats = kChunkRows * kStageStride;
  static constexpr int64_t kWidenedRows = 2048;

  static size_t bytes(int panel) {
    return float_bytes(kTileFloats) + float_bytes(kStagedFloats) +
           float_bytes(kWidenedRows * panel);
  }
  Scratch(void* memory, int panel) {
    Arena arena(memory);
    tiles = arena.take<float>(kTileFloats);
    staged = arena.take<float>(kStagedFloats);
    widened = arena.take<float>(kWidenedRows * panel);
  }
};

// Bias or planes, activation, output and residual of rows from `row` on in panels [begin, end);
// the product and the number of rows are the caller's to fill in.
inline EpilogueArgs result_of(const Projection& p, int64_t b, int64_t row, int64_t begin,
                              int64_t end) {
  const int64_t panel = p.weight->kernels()->panel;
  const int64_t col = begin * panel;
  const auto at = [&](const Rows& r) { return r ? r.at(b, row) + col : nullptr; };
  EpilogueArgs e;
  e.cols = static_cast<int>(std::min(end * panel, p.weight->out_features()) - col);
  e.bias = p.weight->bias(begin);
  // The update's own output takes plane 0 just written: its forecast distance is 0.
  e.num_planes = p.update ? 1 : p.num_planes;
  for (int m = 0; m < e.num_planes; ++m) {
    e.planes[m] = at(p.planes[m]);
    e.plane_stride[m] = p.planes[m].row_stride;
    e.coefficients[m] = p.update ? 1.f : p.coefficients[m];
  }
  e.activation = p.activation;
  e.out = at(p.out);
  e.out_stride = p.out.row_stride;
  e.residual = at(p.residual);
  e.residual_stride = p.residual.row_stride;
  e.gate = p.gate ? p.gate.at(b, 0) + col : nullptr;
  return e;
}

// Finishes `rows` rows from `row` on in panels [begin, end). Their product lies in `c`, panels
// `panel_stride` apart; null where no head is active.
inline void finish_rows(const KernelTable& kernels, const Projection& p, int64_t b, int64_t row,
                        int64_t rows, int64_t begin, int64_t end, const float* c,
                        int64_t panel_stride) {
  EpilogueArgs e = result_of(p, b, row, begin, end);
  e.c = c;
  e.panel_stride = panel_stride;
  e.rows = static_cast<int>(rows);
  if (e.out || e.residual) kernels.epilogue(e);
}

// Puts what result_of() will read and write, of `rows` rows, on its way.
inline void expect_result(const Projection& p, int64_t b, int64_t row, int64_t rows, int64_t begin,
                          int64_t end, PrefetchQueue& coming) {
  const int64_t panel = p.weight->kernels()->panel;
  const int64_t col = begin * panel;
  const int64_t cols = std::min(end * panel, p.weight->out_features()) - col;
  int slot = PrefetchQueue::kResults;
  const auto expect = [&](const Rows& r) {
    if (!r || slot == PrefetchQueue::kResults + PrefetchQueue::kMostResults) return;
    coming.set(slot++, r.at(b, row) + col, cols * kFloatBytes, rows, r.row_stride * kFloatBytes);
  };
  for (int m = 0; m < p.num_planes; ++m) expect(p.planes[m]);
  expect(p.residual);
  expect(p.out);
}

}  // namespace flashomni::cpu

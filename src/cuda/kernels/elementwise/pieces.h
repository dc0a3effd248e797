// SPDX-License-Identifier: Apache-2.0
//
// How element-wise kernels walk over tensors of one shape: in pieces of consecutive elements. A
// piece is a row, or, where all tensors are contiguous, a run of kFlatPiece elements.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "flashomni/types.h"

#ifdef __CUDACC__
#define FO_HOST_DEVICE __host__ __device__
#else
#define FO_HOST_DEVICE
#endif

namespace flashomni::cuda {

constexpr int64_t kFlatPiece = 2048;

// One tensor of an operation; absent ones have no data.
struct Operand {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t stride[TensorView::kMaxRank - 1] = {0, 0, 0};  // of the dimensions of the rows
  int64_t column_stride = 1;
};

struct Pieces {
  int64_t shape[TensorView::kMaxRank - 1] = {1, 1, 1};  // of the rows, outermost first
  int64_t count = 1;                                    // of all pieces
  int64_t width = 0;                                    // elements of a piece
  int64_t total = 0;                                    // elements; the last piece may be shorter

  FO_HOST_DEVICE int64_t offset(const Operand& operand, int64_t piece) const {
    if (count == shape[2]) return piece * operand.stride[2];
    int64_t offset = 0;
    for (int i = TensorView::kMaxRank - 2; i >= 0; --i) {
      offset += piece % shape[i] * operand.stride[i];
      piece /= shape[i];
    }
    return offset;
  }
  FO_HOST_DEVICE int64_t elements(int64_t piece) const {
    const int64_t rest = total - piece * width;
    return rest < width ? rest : width;
  }
};

// Whether 16-byte accesses of `vector` elements may be used on all pieces of this operand.
inline bool takes_vectors(const Operand& o, int64_t vector) {
  if (!o.data) return true;
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(o.dtype));
  bool aligned = reinterpret_cast<uintptr_t>(o.data) % 16 == 0 && o.column_stride == 1 &&
                 vector * bytes % 16 == 0;
  for (const int64_t stride : o.stride) aligned = aligned && stride * bytes % 16 == 0;
  return aligned;
}

// The pieces of tensors of one shape (the first of them is present) and their operands.
inline Pieces make_pieces(std::initializer_list<const TensorView*> tensors, Operand* operands) {
  const TensorView& first = **tensors.begin();
  const bool flat = std::all_of(tensors.begin(), tensors.end(),
                                [](const TensorView* t) { return !*t || t->is_contiguous(); });
  Pieces pieces;
  pieces.total = first.numel();
  const int rows = first.rank - 1;
  if (flat) {
    pieces.width = std::min(pieces.total, kFlatPiece);
    pieces.count = pieces.width == 0 ? 0 : (pieces.total + pieces.width - 1) / pieces.width;
    pieces.shape[2] = pieces.count;
  } else {
    pieces.width = first.size(rows);
    for (int i = 0; i < rows; ++i) {
      pieces.shape[TensorView::kMaxRank - 1 - rows + i] = first.size(i);
      pieces.count *= first.size(i);
    }
  }
  for (const TensorView* t : tensors) {
    Operand operand;
    if (*t) {
      operand.data = t->data;
      operand.dtype = t->dtype;
      if (flat) {
        operand.stride[2] = pieces.width;
      } else {
        for (int i = 0; i < rows; ++i) {
          operand.stride[TensorView::kMaxRank - 1 - rows + i] = t->size(i) == 1 ? 0 : t->stride[i];
        }
        operand.column_stride = t->size(rows) == 1 ? 1 : t->stride[rows];
      }
    }
    *operands++ = operand;
  }
  return pieces;
}

// Threads for pieces of this many steps, and CTAs for this many pieces.
struct PieceGrid {
  unsigned blocks;
  unsigned threads;

  PieceGrid(const Pieces& pieces, int64_t vector) {
    const int64_t steps = (pieces.width + vector - 1) / vector;
    threads = static_cast<unsigned>(std::clamp<int64_t>((steps + 31) / 32 * 32, 32, 256));
    blocks = static_cast<unsigned>(std::min<int64_t>(pieces.count, int64_t{1} << 20));
  }
};

}  // namespace flashomni::cuda

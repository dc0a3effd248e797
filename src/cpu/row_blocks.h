// SPDX-License-Identifier: Apache-2.0
//
// How the drivers of the matrix products cut their work. Sizes are for an L2 of 1 MB or more and
// affect speed only: every output is one chain over ascending k wherever the cuts fall.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/context.h"

namespace flashomni::cpu {

// Rows handled together, so that a panel of the weight is used that often once it is in a cache.
inline constexpr int64_t kChunkRows = 256;
// Most symbol blocks in a chunk: blocks of 32.
inline constexpr int kMaxChunkBlocks = kChunkRows / 32;
// Stretch of k: a panel's [kBlockK][panel] then fits L1 beside a tile of rows.
inline constexpr int64_t kBlockK = 128;
// The stretch where products take bf16, whose tiles are longer.
inline constexpr int64_t kBlockKPairs = 512;
inline int64_t block_k(const KernelTable& kernels) {
  return kernels.products == DType::kF32 ? kBlockK : kBlockKPairs;
}
// Whether products read a copy of the rows, rounded to their own type. In f32 they read rows where
// they lie: whole panels take at most eight at a time, fewer than an L1 has ways.
inline bool stages(const KernelTable& kernels) {
  return kernels.products != DType::kF32;
}
// Columns of all accumulated tiles of a task: rows are used for that many.
inline constexpr int64_t kGroupColumns = 512;
// Distance of staged rows, in floats: a stretch plus a cache line, to spread rows over the cache
// sets.
inline constexpr int64_t kStageStride = kBlockKPairs / 2 + 16;

// Tasks a thread should get, so that threads finish together.
inline constexpr int64_t kTasksPerThread = 8;

// Rows of a chunk, at most kChunkRows: fewer when `others` (tasks for the same rows) are too few to
// keep all threads busy, but not so few that a panel of the weight is used too little.
inline int64_t rows_per_chunk(int64_t rows, int64_t others, int threads) {
  constexpr int64_t kFew = 112;
  const int64_t wanted = ceil_div(kTasksPerThread * threads, others);
  return std::clamp(ceil_div(rows, wanted), kFew, kChunkRows);
}

// The rows [0, rows) of a segment, cut at symbol block boundaries of the joint sequence, in chunks
// of up to `chunk_rows`.
class RowBlocks {
 public:
  // Without symbols: nearly equal pieces.
  RowBlocks(int64_t rows, int64_t chunk_rows)
      : RowBlocks(rows, chunk_rows, 0, ceil_div(rows, ceil_div(rows, chunk_rows))) {}
  // With symbols: blocks of `block` tokens; row 0 is token `offset`.
  RowBlocks(int64_t rows, int64_t chunk_rows, int64_t offset, int64_t block)
      : rows_(rows),
        offset_(offset),
        block_(block),
        first_(offset / block),
        count_(ceil_div(offset + rows, block) - first_),
        per_chunk_(std::max<int64_t>(1, chunk_rows / block)) {}

  int64_t count() const { return count_; }
  // Symbol row of block i.
  int64_t symbol_row(int64_t i) const { return first_ + i; }
  int64_t begin(int64_t i) const { return std::max<int64_t>(0, (first_ + i) * block_ - offset_); }
  int64_t end(int64_t i) const { return std::min(rows_, (first_ + i + 1) * block_ - offset_); }

  int64_t num_chunks() const { return ceil_div(count_, per_chunk_); }
  int64_t chunk_begin(int64_t chunk) const { return chunk * per_chunk_; }
  int64_t chunk_end(int64_t chunk) const { return std::min(count_, (chunk + 1) * per_chunk_); }

 private:
  int64_t rows_;
  int64_t offset_;
  int64_t block_;
  int64_t first_;
  int64_t count_;
  int64_t per_chunk_;
};

// How many of `items` consecutive items one task takes, given how many fit at most: fewer when that
// would leave the threads short of tasks.
inline int64_t items_per_task(int64_t items, int64_t most, int64_t other_tasks, int threads) {
  const int64_t wanted = ceil_div(kTasksPerThread * threads, std::max<int64_t>(1, other_tasks));
  const int64_t groups = std::max(ceil_div(items, most), std::min(items, wanted));
  return ceil_div(items, groups);
}

}  // namespace flashomni::cpu

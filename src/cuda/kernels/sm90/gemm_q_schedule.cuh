// SPDX-License-Identifier: Apache-2.0
//
// Which CTA computes which tiles of GEMM-Q, and which rows and heads they are. Everything follows
// from the sizes and S_c, so the lists need no memory, no plan and no atomics.
//
// A tile is one column group (a *unit*: batch item and head, or two heads of 64) times up to
// `per` = 256 / block_rows blocks. Of a sparse unit, tile k takes the active blocks of rank per *
// k, per * k + 1, ...: the rows of a tile need not be neighbours, so no tile carries inactive rows.
// Whole tiles all cost the same and are dealt round robin, tile k of all units before tile k + 1,
// so that CTAs at work share rows of x. What is left over after the last full round, and the units'
// last tiles that are not full, are dealt so that they end together.
#pragma once

#include <climits>
#include <cstdint>

#include "cuda/kernels/sm90/gemm_tile.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kNoRow = INT_MIN;
constexpr int kGemmQSlots = kGemmQRows / kSlotRows;

// A tile as the multiplying warps see it.
struct GemmQItem {
  static constexpr int kEnd = -1;

  int section;  // kEnd: no more
  int batch;
  int head;              // the first one
  int active;            // bit 2 * slot + h: head + h of this slot is wanted
  int row[kGemmQSlots];  // of x, first of the slot, may lie before the segment; kNoRow: none
  int block[kGemmQSlots];
  int boxes, box_rows;  // blocks to be loaded, and rows of each
  alignas(16) float bias[128];
};

// A tile as the schedule deals it.
struct GemmQTile {
  int section;
  int unit;        // batch * groups + group
  int first_rank;  // of its blocks among the active ones of the unit
  int count;       // blocks
};

// The position of the n-th lowest set bit. REQUIRES: it exists.
__device__ __forceinline__ int nth_bit(uint64_t word, int n) {
  for (; n > 0; --n) word &= word - 1;
  return __ffsll(static_cast<long long>(word)) - 1;
}

// Bits [begin, end) of word w of a sequence.
__device__ __forceinline__ uint64_t range_mask(int w, int begin, int end) {
  const int low = max(begin - 64 * w, 0), high = min(end - 64 * w, 64);
  if (low >= high) return 0;
  return (~uint64_t{0} >> (64 - (high - low))) << low;
}

// Word w of the blocks of the segment in which any head of the unit is active.
template <int kHeads>
__device__ __forceinline__ uint64_t unit_word(const GemmQArgs& p, int unit, int w) {
  const GemmQSection& section = p.sections[p.num_sections - 1];
  const int b = unit / section.groups, head = unit % section.groups * kHeads;
  const uint64_t* c = p.c + (int64_t{b} * section.heads + head) * p.c_words + w;
  uint64_t word = *c;
  if (kHeads == 2 && head + 1 < section.heads) word |= c[p.c_words];
  return word & range_mask(w, p.first_block, p.end_block);
}

// Active blocks of a unit among [begin, end).
template <int kHeads>
__device__ int count_blocks(const GemmQArgs& p, int unit, int begin, int end) {
  int count = 0;
  for (int w = begin / 64; 64 * w < end; ++w) {
    count += __popcll(unit_word<kHeads>(p, unit, w) & range_mask(w, begin, end));
  }
  return count;
}

// Fills `before` [units][windows + 1] with the active blocks of every unit before each window, the
// last number being all of them. By all threads of the CTA, with a barrier inside; the caller has
// to put one behind it.
template <int kHeads>
__device__ void count_windows(const GemmQArgs& p, int* before) {
  const int units = p.batch * p.sections[p.num_sections - 1].groups;
  const int stride = p.windows + 1;
  for (int i = static_cast<int>(threadIdx.x); i < units * p.windows; i += kGemmThreads) {
    const int u = i / p.windows, w = i % p.windows;
    const int begin = p.first_block + w * p.window_blocks;
    before[u * stride + w + 1] =
        count_blocks<kHeads>(p, u, begin, min(begin + p.window_blocks, p.end_block));
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int u = static_cast<int>(threadIdx.x / 32); u < units; u += kGemmThreads / 32) {
    int* of_unit = before + u * stride;
    int sum = 0;
    for (int base = 0; base < stride; base += 32) {
      const int w = base + lane;
      int count = w > 0 && w < stride ? of_unit[w] : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(kAllLanes, count, step);
        if (lane >= step) count += other;
      }
      if (w < stride) of_unit[w] = sum + count;
      sum += __shfl_sync(kAllLanes, count, 31);
    }
  }
}

// The list of one CTA. A whole warp calls every function, and all lanes know the same.
class GemmQSchedule {
 public:
  // `before`: see count_windows(); in shared memory.
  __device__ GemmQSchedule(const GemmQArgs& p, const int* before)
      : p_(p),
        before_(before),
        sparse_(p.num_sections > p.num_dense),
        per_(sparse_ ? kGemmQRows / p.block_rows : 2),
        dense_pairs_((p.rows + kGemmQRows - 1) / kGemmQRows),
        units_(sparse_ ? p.batch * p.sections[p.num_sections - 1].groups : 0) {
    for (int s = 0; s < p.num_dense; ++s) dense_ += dense_tiles(s);
    int full = 0;
    for (int u = lane(); u < units_; u += 32) {
      full += blocks(u) / per_;
      parts_ += blocks(u) % per_ != 0;
    }
    parts_ = __reduce_add_sync(kAllLanes, parts_);
    const int total = dense_ + __reduce_add_sync(kAllLanes, full);
    const int grid = static_cast<int>(gridDim.x);
    rounds_ = total / grid;
    rest_ = total % grid;
    halve_ = 2 * rest_ + parts_ <= grid;
  }

  // The next tile of this CTA; false when there is none.
  __device__ bool next(GemmQTile& tile) {
    const int grid = static_cast<int>(gridDim.x), cta = static_cast<int>(blockIdx.x);
    const int turn = turn_++;
    if (turn < rounds_) return whole(turn * grid + cta, -1, tile);
    const int late = turn - rounds_;
    const int first = rounds_ * grid;
    // Everything left fits one half tile a CTA.
    if (halve_) {
      if (late > 0) return false;
      if (cta < 2 * rest_) return whole(first + cta / 2, cta % 2, tile);
      return part(cta - 2 * rest_, tile);
    }
    // One whole tile for some CTAs, two parts for the others, then the parts that are left.
    const int idle = grid - rest_;
    if (cta < rest_) {
      if (late == 0) return whole(first + cta, -1, tile);
      return part(2 * idle + cta + (late - 1) * grid, tile);
    }
    if (late < 2) return part(cta - rest_ + late * idle, tile);
    return part(2 * idle + cta + (late - 2) * grid, tile);
  }

 private:
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % 32); }

  __device__ int dense_tiles(int section) const {
    return p_.batch * dense_pairs_ * p_.sections[section].groups;
  }

  // Whole tile `index` of the launch, or its first or second half.
  __device__ bool whole(int index, int half, GemmQTile& tile) const {
    for (int s = 0; s < p_.num_dense; ++s) {
      const int tiles = dense_tiles(s);
      if (index >= tiles) {
        index -= tiles;
        continue;
      }
      const int groups = p_.sections[s].groups;
      const int pair = index / groups;
      tile.section = s;
      tile.unit = pair / dense_pairs_ * groups + index % groups;
      tile.first_rank = pair % dense_pairs_ * 2 + (half > 0 ? 1 : 0);
      tile.count = half < 0 ? 2 : 1;
      return true;
    }
    int window = 0;  // whose tiles begin at or before this index
    for (int end = p_.windows; end - window > 1;) {
      const int middle = (window + end) / 2;
      (sum_units([&](int u) { return tiles_before(u, middle); }) <= index ? window : end) = middle;
    }
    index -= sum_units([&](int u) { return tiles_before(u, window); });
    const auto tiles = [&](int u) { return tiles_before(u, window + 1) - tiles_before(u, window); };
    // In a window, the k-th tile of every unit that has so many before the next.
    int level = 0;
    for (int end = p_.window_blocks / per_ + 1; end - level > 1;) {
      const int middle = (level + end) / 2;
      (sum_units([&](int u) { return min(tiles(u), middle); }) <= index ? level : end) = middle;
    }
    index -= sum_units([&](int u) { return min(tiles(u), level); });
    tile.section = p_.num_sections - 1;
    tile.unit = nth_unit(index, [&](int u) { return tiles(u) > level; });
    tile.first_rank = (tiles_before(tile.unit, window) + level) * per_ + (half > 0 ? per_ / 2 : 0);
    tile.count = half < 0 ? per_ : per_ / 2;
    return true;
  }

  // The last tile of the index-th unit whose last tile is not full.
  __device__ bool part(int index, GemmQTile& tile) const {
    if (index >= parts_) return false;
    tile.section = p_.num_sections - 1;
    tile.unit = nth_unit(index, [&](int u) { return blocks(u) % per_ != 0; });
    tile.count = blocks(tile.unit) % per_;
    tile.first_rank = blocks(tile.unit) - tile.count;
    return true;
  }

  // Active blocks of a unit.
  __device__ __forceinline__ int blocks(int u) const {
    return before_[u * (p_.windows + 1) + p_.windows];
  }
  // Whole tiles of a unit whose first block lies before the window.
  __device__ __forceinline__ int tiles_before(int u, int window) const {
    const int first = (before_[u * (p_.windows + 1) + window] + per_ - 1) / per_;
    return min(first, blocks(u) / per_);
  }
  template <class F>
  __device__ int sum_units(F of) const {
    int sum = 0;
    for (int u = lane(); u < units_; u += 32) sum += of(u);
    return __reduce_add_sync(kAllLanes, sum);
  }

  // The n-th unit for which `wanted` holds. REQUIRES: it exists.
  template <class F>
  __device__ int nth_unit(int n, F wanted) const {
    for (int u0 = 0;; u0 += 32) {
      const int u = u0 + lane();
      const unsigned found = __ballot_sync(kAllLanes, u < units_ && wanted(u));
      const int count = __popc(found);
      if (n < count) return u0 + nth_bit(found, n);
      n -= count;
    }
  }

  const GemmQArgs& p_;
  const int* before_;
  const bool sparse_;
  const int per_;
  const int dense_pairs_;  // pairs of 128 rows
  const int units_;
  int dense_ = 0;  // tiles of the dense sections
  int parts_ = 0;  // units whose last tile is not full
  int rounds_, rest_;
  bool halve_;  // cut the rest in halves
  int turn_ = 0;
};

// Writes what the tile is to `item`, by a whole warp.
template <int kHeadDim>
__device__ void describe_tile(const GemmQArgs& p, const GemmQTile& tile, GemmQItem& item) {
  constexpr int kHeads = gemm_q_heads(kHeadDim);
  constexpr int kColumns = gemm_q_columns(kHeadDim);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const GemmQSection& section = p.sections[tile.section];
  const bool dense = tile.section < p.num_dense;
  const int b = tile.unit / section.groups;
  const int head = tile.unit % section.groups * kHeads;
  const int box_rows = dense ? 128 : p.block_rows;

  int count = tile.count;
  if (dense) {
    count = min(count, (p.rows + 127) / 128 - tile.first_rank);
    if (lane < count) item.block[lane] = tile.first_rank + lane;
  } else {
    int rank = 0;  // of the first set bit of word w0
    for (int w0 = p.first_block / 64; 64 * w0 < p.end_block; w0 += 32) {
      const int w = w0 + lane;
      const uint64_t word = 64 * w < p.end_block ? unit_word<kHeads>(p, tile.unit, w) : 0;
      const int bits = __popcll(word);
      int end = bits;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(kAllLanes, end, step);
        if (lane >= step) end += other;
      }
      for (int j = 0; j < count; ++j) {
        const int n = tile.first_rank + j - rank - (end - bits);
        if (n >= 0 && n < bits) item.block[j] = 64 * w + nth_bit(word, n);
      }
      rank += __shfl_sync(kAllLanes, end, 31);
      if (rank >= tile.first_rank + tile.count) break;
    }
  }
  __syncwarp();

  // Slots of 64 rows, cut from the blocks in order.
  if (lane < kGemmQSlots) {
    const int per_block = box_rows / kSlotRows;
    const int j = lane / per_block;
    int row = kNoRow;
    if (j < count) {
      row = item.block[j] * box_rows - (dense ? 0 : p.token_offset) + lane % per_block * kSlotRows;
      if (row >= p.rows) row = kNoRow;
    }
    item.row[lane] = row;
  }
  bool wanted = false;
  if (lane < 2 * kGemmQSlots) {
    const int j = lane / 2 / (box_rows / kSlotRows), h = head + lane % 2;
    wanted = lane % 2 < kHeads && h < section.heads && j < count;
    if (wanted && !dense && kHeads > 1) {
      const uint64_t* c = p.c + (int64_t{b} * section.heads + h) * p.c_words;
      wanted = c[item.block[j] / 64] >> (item.block[j] % 64) & 1;
    }
  }
  const unsigned active = __ballot_sync(kAllLanes, wanted);
  const int column = 4 * lane;
  if (column < kColumns) {
    const bool inside = section.bias && head * kHeadDim + column < section.heads * kHeadDim;
    *reinterpret_cast<float4*>(item.bias + column) =
        inside ? *reinterpret_cast<const float4*>(section.bias + head * kHeadDim + column)
               : make_float4(0, 0, 0, 0);
  }
  if (lane == 0) {
    item.section = tile.section;
    item.batch = b;
    item.head = head;
    item.active = static_cast<int>(active);
    item.boxes = count;
    item.box_rows = box_rows;
  }
  __syncwarp();
}

}  // namespace flashomni::cuda::sm90

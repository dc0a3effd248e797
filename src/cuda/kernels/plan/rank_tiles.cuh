// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of an attention plan share, and the first of them, which sorts query blocks and
// tiles by their number of kv blocks.
#pragma once

#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/plan/attention_plan.h"

namespace flashomni::cuda {

// The scratch part of AttentionPlanLayout, whose constructor counts these bytes. A group's tiles
// start at first_head * tiles_per_head in the arrays of tiles.
struct AttentionPlanScratch {
  int64_t* start;       // [tiles + 1] cost of the left-over tiles before each
  int2* tile_rows;      // [tiles] row0, row1
  int32_t* counts;      // [tiles] kv blocks
  int32_t* blocks;      // [tiles] kv blocks of the n-th tile of all
  int32_t* places;      // [tiles + grid] of each round: which of its tiles a CTA gets
  int32_t* group_size;  // [kMaxPlanGroups] tiles of each group
  int32_t* row_order;   // [rows] pairs: query blocks of each head, most kv blocks first
  int32_t* head_size;   // [heads] pairs: active query blocks of each head

  AttentionPlanScratch(const AttentionPlanShape& shape, int64_t rows, int grid, char* memory) {
    const int64_t tiles = shape.tiles();
    start = reinterpret_cast<int64_t*>(memory);
    tile_rows = reinterpret_cast<int2*>(start + tiles + 1);
    counts = reinterpret_cast<int32_t*>(tile_rows + tiles);
    blocks = counts + tiles;
    places = blocks + tiles;
    group_size = places + tiles + grid;
    row_order = group_size + kMaxPlanGroups;
    head_size = row_order + rows;
  }
  __device__ void move_by(int64_t bytes);
};

// Plans that are made together: every kernel is given the addresses of the first one's parts, and
// the n-th row of CTAs moves them to the n-th, which is laid out alike.
struct PlanBatch {
  struct Entry {
    const uint64_t* c;
    const uint64_t* s;
    char* section;
  };
  Entry entries[kMaxPlanBatch];

  __device__ int64_t distance(int n) const { return entries[n].section - entries[0].section; }
};

template <class T>
__device__ __forceinline__ void move_by(T*& pointer, int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  pointer = reinterpret_cast<T*>(reinterpret_cast<Byte*>(pointer) + bytes);
}

__device__ __forceinline__ void AttentionPlanScratch::move_by(int64_t bytes) {
  const auto move = [bytes](auto*& pointer) { flashomni::cuda::move_by(pointer, bytes); };
  move(start);
  move(tile_rows);
  move(counts);
  move(blocks);
  move(places);
  move(group_size);
  move(row_order);
  move(head_size);
}

// The symbols on the device; null words: all ones.
struct DeviceSymbols {
  const uint64_t* c;
  const uint64_t* s;
  int num_q;
  int num_kv;
  int c_words;
  int s_words;

  __device__ void move_to(const PlanBatch& batch, int n) {
    c = batch.entries[n].c;
    s = batch.entries[n].s;
  }
  __device__ bool active(int head, int i) const {
    return !c || ((c[static_cast<int64_t>(head) * c_words + i / 64] >> (i % 64)) & 1);
  }
  __device__ const uint64_t* words(int head, int i) const {
    return s + (static_cast<int64_t>(head) * num_q + i) * s_words;
  }
  // The words are asked for whatever S_c says: waiting for it first would take twice as long.
  __device__ int count(int head, int i) const {
    const bool any = active(head, i);
    if (!s) return any ? num_kv : 0;
    const uint64_t* row = words(head, i);
    int n = 0;
#pragma unroll 4
    for (int w = 0; w < s_words; ++w) n += __popcll(row[w]);
    return any ? n : 0;
  }
  __device__ int count_either(int head, int i, int j) const {
    if (!s) return num_kv;
    const uint64_t* a = words(head, i);
    const uint64_t* b = words(head, j);
    int n = 0;
#pragma unroll 4
    for (int w = 0; w < s_words; ++w) n += __popcll(a[w] | b[w]);
    return n;
  }
};

// What rank_items sorts; all three offer move_to, size, count and emit.

// The query blocks of a head, to be paired.
struct HeadRows {
  DeviceSymbols symbols;
  int32_t* row_order;
  int32_t* head_size;

  __device__ void move_to(const PlanBatch& batch, int n) {
    symbols.move_to(batch, n);
    move_by(row_order, batch.distance(n));
    move_by(head_size, batch.distance(n));
  }
  __device__ int size(int) const { return symbols.num_q; }
  __device__ int count(int head, int i) const { return symbols.count(head, i); }
  __device__ void emit(int head, int i, int rank, int) const {
    row_order[static_cast<int64_t>(head) * symbols.num_q + rank] = i;
  }
  __device__ void emit_size(int head, int n) const { head_size[head] = n; }
};

// Where the tiles of a group are written.
struct GroupTiles {
  DeviceSymbols symbols;
  int heads, heads_per_group, tiles_per_head;
  int2* tile_rows;
  int32_t* counts;
  int32_t* group_size;

  __device__ void move_to(const PlanBatch& batch, int n) {
    symbols.move_to(batch, n);
    move_by(tile_rows, batch.distance(n));
    move_by(counts, batch.distance(n));
    move_by(group_size, batch.distance(n));
  }
  __device__ int first_head(int group) const { return group * heads_per_group; }
  __device__ int size(int group) const {
    return min(heads_per_group, heads - first_head(group)) * tiles_per_head;
  }
  __device__ void emit_size(int group, int n) const { group_size[group] = n; }
  __device__ void emit_tile(int group, int rank, int count, int row0, int row1) const {
    const int64_t slot = static_cast<int64_t>(first_head(group)) * tiles_per_head + rank;
    tile_rows[slot] = make_int2(row0, row1);
    counts[slot] = count;
  }
};

// Tiles of one query block.
struct GroupRows : GroupTiles {
  __device__ int count(int group, int n) const {
    return symbols.count(first_head(group) + n / tiles_per_head, n % tiles_per_head);
  }
  __device__ void emit(int group, int n, int rank, int count) const {
    emit_tile(group, rank, count, first_head(group) * tiles_per_head + n, -1);
  }
};

// Tiles of two query blocks of a head.
struct GroupPairs : GroupTiles {
  const int32_t* row_order;
  const int32_t* head_size;

  __device__ void move_to(const PlanBatch& batch, int n) {
    GroupTiles::move_to(batch, n);
    move_by(row_order, batch.distance(n));
    move_by(head_size, batch.distance(n));
  }
  // The query blocks of tile n; the first is -1 if there is no such tile.
  __device__ int2 blocks(int group, int n) const {
    const int head = first_head(group) + n / tiles_per_head;
    const int place = n % tiles_per_head * 2;
    const int active = head_size[head];
    const int32_t* order = row_order + static_cast<int64_t>(head) * symbols.num_q;
    return make_int2(place < active ? order[place] : -1,
                     place + 1 < active ? order[place + 1] : -1);
  }
  __device__ int count(int group, int n) const {
    const int head = first_head(group) + n / tiles_per_head;
    const int2 pair = blocks(group, n);
    if (pair.x < 0) return 0;
    return pair.y < 0 ? symbols.count(head, pair.x) : symbols.count_either(head, pair.x, pair.y);
  }
  __device__ void emit(int group, int n, int rank, int count) const {
    const int row = (first_head(group) + n / tiles_per_head) * symbols.num_q;
    const int2 pair = blocks(group, n);
    emit_tile(group, rank, count, row + pair.x, pair.y < 0 ? -1 : row + pair.y);
  }
};

constexpr int kRankThreads = 256;
constexpr int kRankChunk = 2048;

// Larger keys come first. Unique in a group, and below every key of an item if the count is 0.
__device__ __forceinline__ uint32_t rank_key(int count, int n) {
  return (static_cast<uint32_t>(count) << 16) | static_cast<uint32_t>(0xffff - n);
}

// Grid: (groups, items of a group / kRankThreads, plans). Items with count 0 do not take part.
template <class Items>
__global__ __launch_bounds__(kRankThreads) void rank_items(
    Items items, const __grid_constant__ PlanBatch batch) {
  __shared__ __align__(16) uint32_t keys[kRankChunk];
  __shared__ int scratch[kBlockScratch];
  items.move_to(batch, static_cast<int>(blockIdx.z));
  chain_release();
  chain_wait();
  const int group = blockIdx.x;
  const int size = items.size(group);
  const int own = blockIdx.y * kRankThreads + threadIdx.x;
  if (static_cast<int>(blockIdx.y) * kRankThreads >= size) return;  // the same for all threads
  // In a group of one chunk it is among the keys below.
  int count = own < size && size > kRankChunk ? items.count(group, own) : 0;
  uint32_t own_key = rank_key(count, own);
  int rank = 0;
  int present = 0;
  for (int base = 0; base < size; base += kRankChunk) {
    const int in_chunk = min(kRankChunk, size - base);
    __syncthreads();
#pragma unroll 2
    for (int k = threadIdx.x; k < (in_chunk + 3) / 4 * 4; k += kRankThreads) {
      const int n = k < in_chunk ? items.count(group, base + k) : 0;
      present += n > 0;
      keys[k] = n > 0 ? rank_key(n, base + k) : 0;
    }
    __syncthreads();
    if (size <= kRankChunk && own < size) {
      own_key = keys[own];
      count = static_cast<int>(own_key >> 16);
    }
#pragma unroll 4
    for (int k = 0; k < in_chunk; k += 4) {
      const uint4 key = *reinterpret_cast<const uint4*>(keys + k);
      rank += key.x > own_key;
      rank += key.y > own_key;
      rank += key.z > own_key;
      rank += key.w > own_key;
    }
  }
  if (count > 0) items.emit(group, own, rank, count);
  present = block_reduce(present, 0, Add{}, scratch);
  if (blockIdx.y == 0 && threadIdx.x == 0) items.emit_size(group, present);
}

}  // namespace flashomni::cuda

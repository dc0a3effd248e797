// SPDX-License-Identifier: Apache-2.0
//
// The loading side: one warp reads the symbols of its list's rows and keeps the copy engine busy
// with the kv tiles that are set, highest block first, straight on from one list entry to the next.
#pragma once

#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/attention_layout.cuh"
#include "cuda/kernels/sm90/attention_work.cuh"

namespace flashomni::cuda::sm90 {

// Sequence, head and batch of a row of S_c.
struct RowPlace {
  int block, head, batch;
  __device__ __forceinline__ RowPlace(const AttentionArgs& args, int row) {
    block = row % args.num_q_blocks;
    const int group = row / args.num_q_blocks;
    head = group % args.heads;
    batch = group / args.heads;
  }
};

// The rows of one kv tile: one block of 128, or two of 64 of which the first may be missing.
struct KvTile {
  int row0, row1;  // first rows of the lower and the upper half
};

// The set bits of one list entry's rows, one word a lane; a dense call sets them all.
__device__ __forceinline__ uint64_t row_word(const AttentionArgs& args, const AttentionWork& work) {
  const int lane = threadIdx.x % 32;
  if (!args.s) {
    const int left = args.num_kv_blocks - 64 * lane;
    return left >= 64 ? ~0ull : left > 0 ? (1ull << left) - 1 : 0;
  }
  if (lane >= args.s_words) return 0;
  uint64_t word = __ldg(args.s + int64_t{work.row0} * args.s_words + lane);
  if (work.row1 >= 0) word |= __ldg(args.s + int64_t{work.row1} * args.s_words + lane);
  return word;
}

// The kv blocks of one list entry, as tiles.
template <int kBlockKv>
class KvStream {
 public:
  __device__ __forceinline__ KvStream(const AttentionWork& work, uint64_t word)
      : blocks_left_(work.count) {
    bits_.load(word);
    if (work.skip > 0) bits_.skip(work.skip);
  }

  __device__ __forceinline__ bool more() const { return blocks_left_ > 0; }

  // `valid` is the number of leading rows that exist; below 128 in an entry's first tile only.
  __device__ __forceinline__ KvTile next(const AttentionArgs& args, int& valid) {
    const int high = bits_.next();
    const int rows = min(kBlockKv, args.kv_tokens - high * kBlockKv);
    if constexpr (kBlockKv == kKvRows) {
      --blocks_left_;
      valid = rows;
      return {high * kBlockKv, high * kBlockKv + 64};
    } else {
      if (blocks_left_ % 2 == 1) {
        --blocks_left_;
        valid = rows;
        return {high * kBlockKv, args.kv_tokens};  // past the end: reads as zeros
      }
      blocks_left_ -= 2;
      valid = kBlockKv + rows;
      return {bits_.next() * kBlockKv, high * kBlockKv};
    }
  }

 private:
  RowBits bits_;
  int blocks_left_;
};

template <class Layout, int kBlockKv>
__device__ __forceinline__ void load_kv_tile(char* to, const CUtensorMap* map, uint64_t* full,
                                             const KvTile& tile, const RowPlace& place) {
  barrier_arrive_expect(full, Layout::kTileBytes);
  if constexpr (kBlockKv == kKvRows) {
    tma_load_5d(to, map, full, 0, tile.row0, 0, place.head, place.batch, kEvictLast);
  } else {
#pragma unroll
    for (int c = 0; c < Layout::kChunks; ++c) {
      char* chunk = to + c * Layout::kChunkBytes;
      tma_load_5d(chunk, map, full, 0, tile.row0, c, place.head, place.batch, kEvictLast);
      tma_load_5d(chunk + 64 * Layout::kRowBytes, map, full, 0, tile.row1, c, place.head,
                  place.batch, kEvictLast);
    }
  }
}

template <int kHeadDim, int kBlockKv>
__device__ __forceinline__ void produce(const AttentionArgs& args, char* smem,
                                        AttentionBarriers& bars) {
  using Layout = AttentionLayout<kHeadDim>;
  const bool leader = threadIdx.x % 32 == 0;
  const WorkList list(args, blockIdx.x, gridDim.x);
  const int entries = list.size();
  if (entries == 0) return;

  // What an entry needs is fetched while the entry before it loads, and its place in the list one
  // entry earlier still: a wait for global memory here would drain the pipeline.
  RingState<Layout::kSlots> ring;
  AttentionWork next = list.at(0);
  uint64_t next_word = row_word(args, next);
  AttentionWork after = list.at(min(1, entries - 1));
  KvTile last{};  // whose V is still to be loaded
  RowPlace last_place(args, next.row0);
  bool pending = false;

  const auto load = [&](const CUtensorMap& map, const KvTile& tile, const RowPlace& place,
                        int valid) {
    if (leader) {
      barrier_wait(&bars.kv_empty[ring.stage], ring.phase ^ 1);
      bars.valid[ring.stage] = valid;
      load_kv_tile<Layout, kBlockKv>(smem + Layout::kKv + ring.stage * Layout::kTileBytes, &map,
                                     &bars.kv_full[ring.stage], tile, place);
    }
    ring.advance();
  };

  // Queries of the next list entry, as soon as their buffer is free: they come from memory further
  // away than the keys, which other CTAs have used lately.
  int queries = 0;  // entries whose queries are on their way
  const auto load_query = [&](int row0) {
    const RowPlace place(args, row0);
    const int buffer = queries & 1;
    barrier_arrive_expect(&bars.q_full[buffer], Layout::kTileBytes);
    tma_load_5d(smem + Layout::kQ + buffer * Layout::kTileBytes, &args.q, &bars.q_full[buffer], 0,
                place.block * kQueryRows, 0, place.head, place.batch, kEvictFirst);
    ++queries;
  };
  const auto query_free = [&](bool wait) {
    uint64_t* bar = &bars.q_empty[queries & 1];
    const uint32_t parity = ((queries >> 1) & 1) ^ 1;
    if (!wait) return barrier_test(bar, parity);
    barrier_wait(bar, parity);
    return true;
  };

  for (int entry = 0; entry < entries; ++entry) {
    const int row0 = next.row0;
    const RowPlace place(args, row0);
    KvStream<kBlockKv> stream(next, next_word);
    next = after;
    next_word = row_word(args, next);
    after = list.at(min(entry + 2, entries - 1));
    bool first = true;
    while (stream.more()) {
      int valid;
      const KvTile tile = stream.next(args, valid);
      load(args.k, tile, place, valid);
      if (leader) {
        if (first) {
          if (queries == entry && query_free(true)) load_query(row0);
        } else if (queries == entry + 1 && queries < entries && query_free(false)) {
          load_query(next.row0);
        }
      }
      if (pending) load(args.v, last, last_place, kKvRows);
      last = tile;
      last_place = place;
      pending = true;
      first = false;
    }
  }
  load(args.v, last, last_place, kKvRows);
}

}  // namespace flashomni::cuda::sm90

// SPDX-License-Identifier: Apache-2.0
//
// The loading side: one warp reads the symbols of its list's rows and keeps the copy engine busy
// with the kv tiles that are set, highest block first, straight on from one list entry to the next.
#pragma once

#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/attention_layout.cuh"
#include "cuda/kernels/sm90/attention_params.h"
#include "cuda/kernels/sm90/attention_work.cuh"

namespace flashomni::cuda::sm90 {

// The rows of one kv tile: one block of 128, or two of 64 of which the first may be missing.
struct KvTile {
  int row0, row1;  // first rows of the lower and the upper half
  int valid;       // leading rows that exist; below 128 in a list entry's first tile only
  int wanted;      // see AttentionBarriers; paired query blocks only
};

// The set bits of one row, one word a lane; a dense call sets them all.
__device__ __forceinline__ uint64_t row_word(const AttentionArgs& args, int row) {
  const int lane = threadIdx.x % 32;
  if (!args.s) {
    const int left = args.num_kv_blocks - 64 * lane;
    return left >= 64 ? ~0ull : left > 0 ? (1ull << left) - 1 : 0;
  }
  if (row < 0 || lane >= args.s_words) return 0;
  return __ldg(args.s + int64_t{row} * args.s_words + lane);
}

// The rows of one list entry: of one query block, or of two.
template <bool kPaired>
struct RowWords {
  uint64_t word[kPaired ? 2 : 1];
  __device__ __forceinline__ RowWords(const AttentionArgs& args, const AttentionWork& work) {
    word[0] = row_word(args, work.row0);
    if constexpr (kPaired) word[1] = row_word(args, work.row1);
  }
};

// The kv blocks of one list entry, as tiles.
template <int kBlockKv, bool kPaired>
class KvStream {
 public:
  __device__ __forceinline__ KvStream(const AttentionWork& work, const RowWords<kPaired>& rows)
      : rows_(rows), blocks_left_(work.count) {
    uint64_t any = rows.word[0];
    if constexpr (kPaired) any |= rows.word[1];
    bits_.load(any);
    if (work.skip > 0) bits_.skip(work.skip);
  }

  __device__ __forceinline__ bool more() const { return blocks_left_ > 0; }

  __device__ __forceinline__ KvTile next(const AttentionArgs& args) {
    const int high = bits_.next();
    const int rows = min(kBlockKv, args.kv_tokens - high * kBlockKv);
    if constexpr (kBlockKv == kKvRows) {
      --blocks_left_;
      const int wanted = wants(high);
      return {high * kBlockKv, high * kBlockKv + 64, rows, wanted | wanted << 1};
    } else {
      if (blocks_left_ % 2 == 1) {
        --blocks_left_;
        // The upper half lies past the end and reads as zeros.
        return {high * kBlockKv, args.kv_tokens, rows, wants(high)};
      }
      blocks_left_ -= 2;
      const int low = bits_.next();
      return {low * kBlockKv, high * kBlockKv, kBlockKv + rows, wants(low) | wants(high) << 1};
    }
  }

 private:
  // Bit 0: the first query block has this kv block, bit 2: the second one has it.
  __device__ __forceinline__ int wants(int block) const {
    if constexpr (!kPaired) return 0;
    int wanted = 0;
#pragma unroll
    for (int g = 0; g < (kPaired ? 2 : 0); ++g) {
      const uint64_t word = __shfl_sync(0xffffffff, rows_.word[g], block / 64);
      wanted |= static_cast<int>(word >> (block % 64) & 1) << (2 * g);
    }
    return wanted;
  }

  RowWords<kPaired> rows_;
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

// The queries of a list entry: one block of 128, or two of 64 of which the second may be missing.
template <class Layout, bool kPaired>
__device__ __forceinline__ void load_query_tile(const AttentionArgs& args, char* to, uint64_t* full,
                                                int row0, int row1) {
  const RowPlace place(args, row0);
  if constexpr (!kPaired) {
    barrier_arrive_expect(full, Layout::kTileBytes);
    tma_load_5d(to, &args.q, full, 0, place.block * kQueryRows, 0, place.head, place.batch,
                kEvictFirst);
    return;
  }
  const int halves = row1 < 0 ? 1 : 2;
  barrier_arrive_expect(full, Layout::kTileBytes / 2 * halves);
  for (int half = 0; half < halves; ++half) {
    const int block = place.block + (half == 0 ? 0 : row1 - row0);  // of the same head
#pragma unroll
    for (int c = 0; c < Layout::kChunks; ++c) {
      tma_load_5d(to + c * Layout::kChunkBytes + half * kWarpgroupRows * Layout::kRowBytes, &args.q,
                  full, 0, block * kWarpgroupRows, c, place.head, place.batch, kEvictFirst);
    }
  }
}

template <int kHeadDim, int kBlockKv, bool kPaired, class Pace>
__device__ __forceinline__ void produce(const AttentionArgs& args, char* smem,
                                        AttentionBarriers& bars) {
  using Layout = AttentionLayout<kHeadDim>;
  const bool leader = threadIdx.x % 32 == 0;
  const WorkList list(args, blockIdx.x);
  const int entries = list.size();
  if (entries == 0) return;

  // What an entry needs is fetched while the entry before it loads, and its place in the list one
  // entry earlier still: a wait for global memory here would drain the pipeline.
  RingState<Layout::kSlots> ring;
  AttentionWork next = list.at(0);
  RowWords<kPaired> next_words(args, next);
  AttentionWork after = list.at(min(1, entries - 1));
  KvTile last{};  // whose V is still to be loaded
  RowPlace last_place(args, next.row0);
  bool pending = false;

  const auto load = [&](const CUtensorMap& map, const KvTile& tile, const RowPlace& place) {
    Pace::pause();
    if (leader) {
      barrier_wait(&bars.kv_empty[ring.stage], ring.phase ^ 1);
      if constexpr (kPaired) {
        bars.wanted[ring.stage] = tile.wanted;
        bars.valid[ring.stage] = tile.valid;
      }
      load_kv_tile<Layout, kBlockKv>(smem + Layout::kKv + ring.stage * Layout::kTileBytes, &map,
                                     &bars.kv_full[ring.stage], tile, place);
    }
    ring.advance();
  };

  // Queries of the next list entry, as soon as their buffer is free: they come from memory further
  // away than the keys, which other CTAs have used lately.
  int queries = 0;  // entries whose queries are on their way
  const auto load_query = [&](int row0, int row1) {
    const int buffer = queries & 1;
    load_query_tile<Layout, kPaired>(args, smem + Layout::kQ + buffer * Layout::kTileBytes,
                                     &bars.q_full[buffer], row0, row1);
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
    const int row1 = next.row1;
    const RowPlace place(args, row0);
    KvStream<kBlockKv, kPaired> stream(next, next_words);
    next = after;
    next_words = RowWords<kPaired>(args, next);
    after = list.at(min(entry + 2, entries - 1));
    bool first = true;
    while (stream.more()) {
      const KvTile tile = stream.next(args);
      load(args.k, tile, place);
      if (leader) {
        if (first) {
          if (queries == entry && query_free(true)) load_query(row0, row1);
        } else if (queries == entry + 1 && queries < entries && query_free(false)) {
          load_query(next.row0, next.row1);
        }
      }
      if (pending) load(args.v, last, last_place);
      last = tile;
      last_place = place;
      pending = true;
      first = false;
    }
    if constexpr (kPaired) {  // ends every entry before it starts the next one
      load(args.v, last, last_place);
      pending = false;
    }
  }
  if (pending) load(args.v, last, last_place);
}

}  // namespace flashomni::cuda::sm90

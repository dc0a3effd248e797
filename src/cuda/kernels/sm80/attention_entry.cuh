// SPDX-License-Identifier: Apache-2.0
//
// The entries of a CTA's list as the portable attention kernel walks them: in windows of so many kv
// blocks that are set, highest first, as chunks of 64 rows. At the start of each window one warp
// decodes the next one into shared memory: walked bit by bit in all threads, symbols would take
// registers that the sums need.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/attention_list.cuh"
#include "cuda/kernels/sm80/attention_params.h"

namespace flashomni::cuda::sm80 {

constexpr int kWindowBlocks = 64;
constexpr int kWindowChunks = 2 * kWindowBlocks;

// Of an entry, as AttentionWork.
struct EntryRows {
  int row0, row1, merge;
};

struct Window {
  EntryRows rows;
  int entry;  // of the list
  int start;  // blocks of the entry before it
  int chunks;
  bool ends, more;    // of its entry it is the last; there is one after it
  const void *k, *v;  // of its head
  uint16_t chunk[kWindowChunks];
};

struct Windows {
  Window window[2];  // they take turns
  EntryRows done;    // the entry that has come to its end
};
static_assert(sizeof(Windows) == kWindowBytes);

// A chunk: its number, and bit 14 + g where query block g of the entry wants it; one of them does.
// Chunks are numbered over the sequence, those of ragged blocks block by block.
__device__ __forceinline__ bool chunk_wanted(uint16_t chunk, int group) {
  return chunk >> (14 + group) & 1;
}

// Where a chunk's rows begin, and how many of the 64 are its own (or more: all).
struct ChunkPlace {
  int row, valid;
};
template <bool kRagged>
__device__ __forceinline__ ChunkPlace chunk_place(const AttentionArgs& args, uint16_t chunk) {
  const int number = chunk & 0x3fff;
  if constexpr (kRagged) {
    const int per_block = args.block_kv / kKvRows;
    const int block = number / per_block;
    const int row = __ldg(args.starts + block) + number % per_block * kKvRows;
    return {row, __ldg(args.starts + block + 1) - row};
  }
  return {number * kKvRows, args.kv_tokens - number * kKvRows};
}

// Where the rows of a query block begin, and where they end at the latest.
struct QueryPlace {
  int begin, end;
};
template <bool kRagged>
__device__ __forceinline__ QueryPlace query_place(const AttentionArgs& args, int block) {
  if constexpr (kRagged) return {__ldg(args.starts + block), __ldg(args.starts + block + 1)};
  return {block * args.block_q, args.q_tokens};
}

__device__ __forceinline__ const uint16_t* head_rows(const HeadRows& rows, const RowPlace& at) {
  return static_cast<const uint16_t*>(rows.data) + at.batch * rows.batch_stride +
         at.head * rows.head_stride;
}

// threadIdx.x where little time goes: what follows from it is computed there, and not once for the
// whole kernel, for which there are no registers.
__device__ __forceinline__ int thread_for_once() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// One word a lane of the row of S_s; a call without symbols sets all bits.
__device__ __forceinline__ uint64_t row_word(const AttentionArgs& args, int row, int lane) {
  if (!args.s) {
    const int count = args.num_kv_blocks - 64 * lane;
    return count >= 64 ? ~uint64_t{0} : count > 0 ? (uint64_t{1} << count) - 1 : 0;
  }
  if (row < 0 || lane >= args.s_words) return 0;
  return __ldg(args.s + int64_t{row} * args.s_words + lane);
}

// Moves the chunks that somebody wants to the front, in order, and says how many there are. By a
// whole warp; no lane reads what a lower one has written.
__device__ __forceinline__ int compact_chunks(uint16_t* chunks, int count, int lane) {
  __syncwarp();
  int kept = 0;
  for (int base = 0; base < count; base += 32) {
    const uint16_t chunk = base + lane < count ? chunks[base + lane] : uint16_t{0};
    const bool there = chunk >> 14 != 0;
    const unsigned all = __ballot_sync(0xffffffff, there);
    if (there) chunks[kept + __popc(all & ((1u << lane) - 1))] = chunk;
    kept += __popc(all);
    __syncwarp();
  }
  return kept;
}

// The window of an entry that leaves out its first `start` blocks. By a whole warp.
template <bool kRagged>
__device__ __forceinline__ void decode_window(const AttentionArgs& args, int entry, int start,
                                              Window& window) {
  const WorkList list(args, static_cast<int>(blockIdx.x));
  const AttentionWork work = list.at(entry);
  const int lane = thread_for_once() % 32;
  const uint64_t first = row_word(args, work.row0, lane);
  const uint64_t second = work.row1 < 0 ? 0 : row_word(args, work.row1, lane);
  uint64_t any = first | second;
  // Set bits of the lanes above, less those before the window.
  const int own = __popcll(any);
  int rank = own;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int other = __shfl_down_sync(0xffffffff, rank, d);
    if (lane + d < 32) rank += other;
  }
  rank -= own + work.skip + start;

  // Blocks of 128 are two chunks; the last one may be one, and ragged ones, of which any may be,
  // leave holes that are closed in the end.
  const int per_block = args.block_kv / kKvRows;
  const int all_chunks =
      kRagged ? args.num_kv_blocks * per_block : (args.kv_tokens + kKvRows - 1) / kKvRows;
  const int missing = args.num_kv_blocks * per_block - all_chunks;
  const int last = args.num_kv_blocks - 1;
  const bool has_last = lane == last / 64 && (any >> (last % 64) & 1);
  const bool shorter = work.skip + start == 0 && __any_sync(0xffffffff, has_last);
  const int short_by = shorter ? missing : 0;
  const int count = min(kWindowBlocks, work.count - start);
  if (rank + own <= 0) any = 0;  // all before the window
  while (any != 0 && rank < count) {
    const int bit = 63 - __clzll(static_cast<long long>(any));
    any ^= uint64_t{1} << bit;
    if (rank >= 0) {
      const int wanted =
          static_cast<int>(first >> bit & 1) << 14 | static_cast<int>(second >> bit & 1) << 15;
      const int chunk = (64 * lane + bit) * per_block;
      int at = rank * per_block - short_by;  // of its highest chunk
      for (int half = per_block - 1; half >= 0; --half, ++at) {
        const auto entry_of = static_cast<uint16_t>((chunk + half) | wanted);
        if constexpr (kRagged) {
          const bool there = chunk_place<true>(args, entry_of).valid > 0;
          window.chunk[at] = there ? entry_of : uint16_t{0};
        } else if (chunk + half < all_chunks) {
          window.chunk[at] = entry_of;
        }
      }
    }
    ++rank;
  }
  int chunks = count * per_block - short_by;
  if constexpr (kRagged) chunks = compact_chunks(window.chunk, chunks, lane);
  if (lane == 0) {
    const RowPlace at(args, work.row0);
    window.rows = {work.row0, work.row1, work.merge};
    window.entry = entry;
    window.start = start;
    window.chunks = chunks;
    window.ends = start + count == work.count;
    window.more = !window.ends || entry + 1 < list.size();
    window.k = head_rows(args.k, at);
    window.v = head_rows(args.v, at);
  }
}

}  // namespace flashomni::cuda::sm80

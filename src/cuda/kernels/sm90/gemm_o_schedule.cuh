// SPDX-License-Identifier: Apache-2.0
//
// Which CTA computes which tiles of GEMM-O. Row tiles come from the plan, most active heads first,
// and all column tiles of a row tile (of a panel of them) are neighbours in the list, so that CTAs
// at work share rows of A and columns of the weight. The list is dealt to and fro over the grid:
// with falling costs no CTA is behind another by more than one tile. With symbols the CTAs of every
// other row tile walk their share from its end: all of them at tiles of one length would read
// planes and store at the same time, with nothing else to do. If the last round is less than half
// full, its tiles are cut in halves of 128 columns. Tiles of higher planes, which the update form
// has, level what that round leaves.
#pragma once

#include <cstdint>

#include "cuda/kernels/sm90/gemm_tile.cuh"

namespace flashomni::cuda::sm90 {

// The heads of one pass over k. kCached comes first: with the update form the accumulators hold the
// bias plane when it ends, and go on to the full result from there.
enum GemmOPass : int { kCached = 0, kActive = 1 };

// Where a tile lies and what is done there.
struct GemmOTile {
  static constexpr int kEnd = -1;

  int plane;  // whose features are multiplied; kEnd: no more tiles
  int batch;
  int tile;  // of the batch item
  int row;   // of the joint sequence
  int column, columns;
  int first_pass, last_pass;
};

// A tile as the multiplying warps see it.
struct GemmOItem {
  GemmOTile at;
  // Heads of each half of 64 rows in each pass; the load side takes those of either half.
  uint64_t heads[2][2][kGemmOHeadWords];
  int count[2];  // heads that the load side takes in each pass
  int alike;     // whether both halves want all of them
  alignas(16) float bias[kGemmOColumns];
  alignas(16) float gate[kGemmOColumns];
};

// Row tiles of a call on a part of the sequence, picked from the plan's order.
struct GemmOPicked {
  uint32_t mask[kGemmOMaxPicked / 32];    // bit k % 32 of word k / 32: entry k takes part
  uint32_t before[kGemmOMaxPicked / 32];  // entries that take part in earlier words
};

__device__ __forceinline__ bool picks_all(const GemmOArgs& p) {
  return !p.has_symbols || p.num_tiles == p.order_tiles;
}

// By the whole CTA; ends with a barrier.
__device__ __forceinline__ void pick_tiles(const GemmOArgs& p, GemmOPicked& picked) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int entries = p.batch * p.order_tiles;
  const int words = (entries + 31) / 32;
  for (int w = static_cast<int>(threadIdx.x / 32); w < words; w += kGemmThreads / 32) {
    const int k = 32 * w + lane;
    bool in = false;
    if (k < entries) {
      const int tile = static_cast<int>(p.order[k]) % p.order_tiles;
      in = tile >= p.first_tile && tile < p.first_tile + p.num_tiles;
    }
    const unsigned mask = __ballot_sync(kAllLanes, in);
    if (lane == 0) picked.mask[w] = mask;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    uint32_t sum = 0;
    for (int w0 = 0; w0 < words; w0 += 32) {
      const int w = w0 + lane;
      const uint32_t count = w < words ? __popc(picked.mask[w]) : 0;
      uint32_t end = count;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(kAllLanes, end, step);
        if (lane >= step) end += other;
      }
      if (w < words) picked.before[w] = sum + end - count;
      sum += __shfl_sync(kAllLanes, end, 31);
    }
  }
  __syncthreads();
}

// The entry of the order that is the n-th to take part. REQUIRES: it exists.
__device__ __forceinline__ int picked_entry(const GemmOArgs& p, const GemmOPicked& picked, int n) {
  int low = 0, high = (p.batch * p.order_tiles + 31) / 32;  // before[low] <= n < before[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (picked.before[middle] <= static_cast<uint32_t>(n)) {
      low = middle;
    } else {
      high = middle;
    }
  }
  uint32_t word = picked.mask[low];
  for (uint32_t k = picked.before[low]; k < static_cast<uint32_t>(n); ++k) word &= word - 1;
  return 32 * low + __ffs(static_cast<int>(word)) - 1;
}

// The tile at this position of the list.
__device__ __forceinline__ GemmOTile locate_tile(const GemmOArgs& p, const GemmOPicked& picked,
                                                 int position) {
  const int row_tiles = p.batch * p.num_tiles;
  const int tiles = row_tiles * p.column_tiles;
  const int within = position % tiles;
  // All but the last panel are equally wide.
  const int panel = within / (row_tiles * p.panel);
  const int width = min(p.panel, p.column_tiles - panel * p.panel);
  const int rest = within - panel * row_tiles * p.panel;
  int rank = rest / width;
  GemmOTile at;
  at.plane = position / tiles;
  // Higher planes take the cached heads only: turned round, most of those come first.
  if (at.plane > 0) rank = row_tiles - 1 - rank;
  at.batch = rank / p.num_tiles;
  at.tile = p.first_tile + rank % p.num_tiles;
  if (p.has_symbols) {
    const int k = picks_all(p) ? rank : picked_entry(p, picked, rank);
    const int entry = static_cast<int>(p.order[k]);
    at.batch = entry / p.order_tiles;
    at.tile = entry % p.order_tiles;
  }
  at.row = p.tile_origin + at.tile * kGemmORows;
  at.column = (panel * p.panel + rest % width) * kGemmOColumns;
  at.columns = kGemmOColumns;
  const bool wants_result = at.plane == 0 && (p.out || p.residual);
  at.first_pass = p.num_written > 0 ? kCached : kActive;
  at.last_pass = wants_result ? kActive : kCached;
  return at;
}

// Word w of the heads of one half of a tile that a pass multiplies.
__device__ __forceinline__ uint64_t pass_heads(const GemmOArgs& p, const GemmOTile& at, int pass,
                                               int half, int w) {
  const int first_row = at.row + half * kSlotRows - p.token_offset;
  if (first_row + kSlotRows <= 0 || first_row >= p.rows) return 0;
  const int count = p.heads - 64 * w;
  const uint64_t all = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  uint64_t active = all;
  if (p.has_symbols) {
    const int block = p.block_rows == kGemmORows ? at.tile : 2 * at.tile + half;
    active = p.head_sets[(int64_t{at.batch} * p.num_q_blocks + block) * p.head_words + w];
  }
  return pass == kActive ? active : all & ~active;
}

// Steps of k that a tile of a higher plane has on average, by a whole warp.
__device__ __forceinline__ int mean_cached_steps(const GemmOArgs& p, int head_steps) {
  const int row_tiles = p.batch * p.num_tiles;
  int sum = 0;
  for (int t = static_cast<int>(threadIdx.x % 32); t < row_tiles; t += 32) {
    GemmOTile at;
    at.batch = t / p.num_tiles;
    at.tile = p.first_tile + t % p.num_tiles;
    at.row = p.tile_origin + at.tile * kGemmORows;
    for (int w = 0; w < p.head_words; ++w) {
      sum += __popcll(pass_heads(p, at, kCached, 0, w) | pass_heads(p, at, kCached, 1, w));
    }
  }
  return __reduce_add_sync(kAllLanes, sum) * head_steps / row_tiles;
}

// The list of one CTA. The tiles of plane 0 are dealt first, all of them alike in the update form
// (where the cached heads are computed, too), and leave those with a tile of the last round ahead
// of the others, by a tile of the full k. Of the tiles of higher planes, which have the cached
// heads only, the others first take as many as that is.
struct GemmOList {
  int base;    // tiles of plane 0
  int behind;  // CTAs without a tile of the last round of those
  int alone;   // rounds of higher tiles that are dealt to these only
  int turn;    // place of this CTA in a round of the rest; those behind come first
  int rest;    // higher tiles after those rounds
  int count;   // of the whole list

  // By a whole warp.
  __device__ __forceinline__ GemmOList(const GemmOArgs& p, int head_steps) {
    const int grid = static_cast<int>(gridDim.x);
    const int tiles = p.batch * p.num_tiles * p.column_tiles;
    const int left = tiles % grid;
    const bool halves = 2 * left <= grid;
    const int ahead = halves ? 2 * left : left;
    const int place = place_in(tiles / grid);
    base = tiles / grid + (place < ahead);
    behind = grid - ahead;
    const int higher = tiles * max(0, p.num_written - 1);
    alone = 0;
    if (higher > 0 && ahead > 0 && behind > 0) {
      constexpr int kStoring = 8;  // what it takes to begin and store a tile, in steps of k
      const int cached = mean_cached_steps(p, head_steps);
      const bool whole = p.out || p.residual;
      const int steps = (whole ? p.heads * head_steps + p.mlp_steps : cached) + 2 * kStoring;
      // A half takes more than half of the time.
      alone = min((halves ? steps * 5 / 8 : steps) / (cached + kStoring), higher / behind);
    }
    rest = higher - alone * behind;
    turn = place < ahead ? behind + place : place - ahead;
    const int last = rest % grid;
    count = base + (place < ahead ? 0 : alone) + rest / grid + (turn < last);
  }

  // The place of this CTA in a round of plane 0.
  static __device__ __forceinline__ int place_in(int round) {
    const int cta = static_cast<int>(blockIdx.x);
    return round % 2 == 0 ? cta : static_cast<int>(gridDim.x) - 1 - cta;
  }
  // Of the n-th tile of this CTA that is not of plane 0, the number among all such tiles.
  __device__ __forceinline__ int higher(int n) const {
    const int grid = static_cast<int>(gridDim.x);
    if (turn < behind) {
      if (n < alone) return n * behind + (n % 2 == 0 ? turn : behind - 1 - turn);
      n -= alone;
    }
    // To and fro, such that those behind come first in the last round, which may not be full.
    const bool forth = (rest / grid - n) % 2 == 0;
    return alone * behind + n * grid + (forth ? turn : grid - 1 - turn);
  }
};

// The tile that this CTA computes in this round; false if there is none.
__device__ __forceinline__ bool deal_tile(const GemmOArgs& p, const GemmOPicked& picked,
                                          const GemmOList& list, int round, GemmOTile& at) {
  if (round >= list.count) return false;
  const int grid = static_cast<int>(gridDim.x), cta = static_cast<int>(blockIdx.x);
  const int tiles = p.batch * p.num_tiles * p.column_tiles;
  // In both directions at once, so that long tiles meet short ones; not where the weight is walked
  // in panels, of which there would then be two in L2. What is left of plane 0 stays the last where
  // there is only that.
  const bool higher = p.num_written > 1;
  const int turned = higher ? list.count : tiles / grid;
  if (p.has_symbols && p.panel == p.column_tiles && round < turned && cta / p.panel % 2 == 1) {
    round = turned - 1 - round;
  }
  if (round >= list.base) {
    at = locate_tile(p, picked, tiles + list.higher(round - list.base));
    return true;
  }
  const int place = GemmOList::place_in(round);
  const int first = round * grid, left = tiles - first;
  if (left < grid && 2 * left <= grid) {
    at = locate_tile(p, picked, first + place / 2);
    at.columns = kGemmOColumns / 2;
    at.column += place % 2 * at.columns;
    return true;
  }
  at = locate_tile(p, picked, first + place);
  return true;
}

// Writes what the tile is to `item`, except item.at, by a whole warp.
template <class T>
__device__ void describe_tile(const GemmOArgs& p, const GemmOTile& at, GemmOItem& item) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int differ = 0;
#pragma unroll
  for (int pass = kCached; pass <= kActive; ++pass) {
    int count = 0;
    if (lane < p.head_words) {  // kGemmOHeadWords lanes at most
      const uint64_t first = pass_heads(p, at, pass, 0, lane);
      const uint64_t second = pass_heads(p, at, pass, 1, lane);
      item.heads[pass][0][lane] = first;
      item.heads[pass][1][lane] = second;
      count = __popcll(first | second);
      differ |= first != second;
    }
    count = __reduce_add_sync(kAllLanes, count);
    if (lane == 0) item.count[pass] = count;
  }
  differ = __any_sync(kAllLanes, differ);
  if (lane == 0) item.alike = !differ;
  // In the dispatch form plane 0 holds the bias, rounded to T: it is rounded here too, so that a
  // layer without cached heads gives the dense result bit for bit.
  const bool with_bias = p.bias && at.plane == 0 && (!p.has_symbols || p.num_written > 0);
#pragma unroll
  for (int i = 0; i < kGemmOColumns / 128; ++i) {
    const int c = 128 * i + 4 * lane;
    float4 bias = make_float4(0, 0, 0, 0), gate = make_float4(1, 1, 1, 1);
    if (at.column + c < p.width) {
      if (with_bias) {
        bias = __ldg(reinterpret_cast<const float4*>(p.bias + at.column + c));
        bias = make_float4(Packed<T>::round(bias.x), Packed<T>::round(bias.y),
                           Packed<T>::round(bias.z), Packed<T>::round(bias.w));
      }
      if (p.gate) {
        gate = __ldg(reinterpret_cast<const float4*>(p.gate + at.batch * p.gate_batch_stride +
                                                     at.column + c));
      }
    }
    *reinterpret_cast<float4*>(item.bias + c) = bias;
    *reinterpret_cast<float4*>(item.gate + c) = gate;
  }
  __syncwarp();
}

}  // namespace flashomni::cuda::sm90

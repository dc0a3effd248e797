// SPDX-License-Identifier: Apache-2.0
//
// The attention part of a plan, built on the device in two launches (three with pairs):
//   rank  (pairs only: one group is a head) sorts the active query blocks of every head;
//   rank  sorts the tiles of every L2 group. A tile's place is the number of tiles before it, found
//         by comparing it with all others of the group: no atomics, no passes, a few microseconds;
//   deal  one CTA deals the sorted tiles to the CTAs of the attention kernel and writes their
//         lists; a second one may make the GEMM-O part meanwhile.
#include <algorithm>
#include <string>
#include <type_traits>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/plan/attention_plan.h"
#include "cuda/kernels/plan/gemm_plan.cuh"
#include "cuda/kernels/plan/rank_tiles.cuh"

namespace flashomni::cuda {
namespace {

constexpr int kDealThreads = 1024;
static_assert(kDealThreads >= kMaxPlanGrid && kDealThreads >= kMaxPlanGroups);
static_assert(kDealThreads == kGemmPlanThreads);

// While tiles are dealt a CTA is known by its load and number in 32 bits. The loads are never
// further apart than what a turn deals to one CTA: who has less gets no less. So the key holds the
// load beyond what CTA 0 had a turn ago, and kLoadBase.
constexpr int kCtaBits = 10;
constexpr int kMaxTurnCost = kTurnRounds * (kMaxPlanBlocks * kCostPerStep + kCostPerTile);
static_assert((1 << kCtaBits) >= kMaxPlanGrid);
constexpr int kLoadBase = kMaxTurnCost + 1;
// Of two keys the sign of the difference says which is less; this one is more than all others.
constexpr int kNoCta = (kLoadBase + 2 * kMaxTurnCost) << kCtaBits;
static_assert(int64_t{kLoadBase + 2 * kMaxTurnCost} << kCtaBits <= 0x7fffffff);

constexpr int kUsualGrid = 144;  // at most: 132 SMs, or 114, or 108
constexpr int kUsualLanes = 4;

// How many of this lane's share of the keys are below `own`. In four sums and without branches, so
// that loads and additions overlap. kQuads: groups of four keys of a lane, known to the compiler
// for the grids that there are.
template <int kQuads>
__device__ __forceinline__ int count_below(const int* keys, int own, int lane, int lanes,
                                           int padded) {
  uint32_t below[4] = {};
  const auto add = [&](const int4& key) {
    below[0] += static_cast<uint32_t>(key.x - own) >> 31;
    below[1] += static_cast<uint32_t>(key.y - own) >> 31;
    below[2] += static_cast<uint32_t>(key.z - own) >> 31;
    below[3] += static_cast<uint32_t>(key.w - own) >> 31;
  };
  if constexpr (kQuads > 0) {
    // A few loads at a time: with more, registers run short and what the turns need is computed
    // anew in each of them.
    constexpr int kAtOnce = 3;
    static_assert(kQuads % kAtOnce == 0);
#pragma unroll
    for (int base = 0; base < kQuads; base += kAtOnce) {
      int4 key[kAtOnce];
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        key[n] = *reinterpret_cast<const int4*>(keys + 4 * (kUsualLanes * (base + n) + lane));
      }
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) add(key[n]);
      asm volatile("" ::: "memory");
    }
  } else {
    for (int k = 4 * lane; k < padded; k += 4 * lanes) {
      add(*reinterpret_cast<const int4*>(keys + k));
    }
  }
  return static_cast<int>(below[0] + below[1] + below[2] + below[3]);
}

// Tiles that shared memory holds beside the rest on the GPUs with most of it since sm_80, and whose
// costs add up in 32 bits.
constexpr int kMaxSharedTiles = 7168;
static_assert(int64_t{kMaxSharedTiles + kMaxPlanGrid} *
                  (kMaxPlanBlocks * kCostPerStep + kCostPerTile) <=
              0x7fffffff);
constexpr int kSharedTileBytes = sizeof(int2) + 2 * sizeof(int32_t) + sizeof(uint16_t);
constexpr int shared_bytes(int tiles, int grid) {
  return tiles * kSharedTileBytes + int{sizeof(int32_t)} + grid * int{sizeof(uint16_t)};
}

struct DealParams {
  AttentionPlanScratch scratch;
  AttentionPlanHeader* header;
  int32_t* offsets;
  int4* work;  // two a list entry
  int32_t* flags;
  int groups;
  int64_t group_stride;  // places of a group in the arrays of tiles
  int capacity;          // tiles at most
  int grid;
  int blocks_per_step;
  int heads_paired;   // heads whose head_size counts query blocks; 0: as many as tiles
  GemmPlanArgs gemm;  // for the second CTA, if there is one

  __device__ DealParams at(const PlanBatch& batch, int n) const {
    DealParams p = *this;
    const int64_t distance = batch.distance(n);
    p.scratch.move_by(distance);
    move_by(p.header, distance);
    move_by(p.offsets, distance);
    move_by(p.work, distance);
    move_by(p.flags, distance);
    return p;
  }
  __device__ GemmPlanArgs gemm_at(const PlanBatch& batch, int n) const {
    GemmPlanArgs args = gemm;
    args.c = batch.entries[n].c;
    move_by(args.heads, batch.distance(n));
    move_by(args.order, batch.distance(n));
    return args;
  }
};

struct Cut {
  int tile;   // of those left over
  int steps;  // of it before the cut
};

__device__ __forceinline__ int steps_of(int cost) {
  return (cost - kCostPerTile) / kCostPerStep;
}

// The last of `n` ascending values that is <= x. REQUIRES: values[0] <= x.
template <class T>
__device__ __forceinline__ int last_not_above(const T* values, int n, T x) {
  int low = 0, high = n;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (values[middle] <= x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ __forceinline__ void write_work(int4* work, int64_t entry, int2 rows, int skip,
                                           int count, int merge) {
  work[2 * entry] = make_int4(rows.x, rows.y, skip, count);
  work[2 * entry + 1] = make_int4(merge, 0, 0, 0);
}

template <class Cost>
struct Totals {
  Cost cost, blocks;
  int rows;
};

template <class T>
__device__ __forceinline__ T warp_sum(T v) {
  if constexpr (sizeof(T) == sizeof(int)) {
    return __reduce_add_sync(kAllLanes, v);
  } else {
    return warp_reduce(v, Add{});
  }
}

// Over the threads of the CTA, with a single barrier: every warp adds up what all warps have.
template <class Cost>
__device__ __forceinline__ Totals<Cost> add_up(Totals<Cost> own) {
  __shared__ Totals<Cost> parts[kDealThreads / kWarp];
  own = {warp_sum(own.cost), warp_sum(own.blocks), warp_sum(own.rows)};
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = own;
  __syncthreads();
  const Totals<Cost> part = parts[threadIdx.x % kWarp];
  static_assert(kDealThreads / kWarp == kWarp);
  return {warp_sum(part.cost), warp_sum(part.blocks), warp_sum(part.rows)};
}

// kShared: what is known of the tiles, in their order, is in shared memory. The one CTA has nobody
// to hide its latencies behind and every instruction of its 32 warps counts: see the turns.
// Grid: (CTAs of a plan, plans).
template <bool kShared>
__global__ __launch_bounds__(kDealThreads,
                             1) void deal_tiles(const __grid_constant__ DealParams first,
                                                const __grid_constant__ PlanBatch batch) {
  extern __shared__ __align__(16) char dynamic[];
  __shared__ int group_begin[kMaxPlanGroups];
  __shared__ __align__(8) Cut cuts[kMaxPlanGrid + 1];
  __shared__ int first_whole_entry[kMaxPlanGrid];
  __shared__ __align__(16) int keys[2][kMaxPlanGrid];
  __shared__ std::conditional_t<kShared, int32_t, int64_t> base_load[2];
  __shared__ std::conditional_t<kShared, int32_t, int64_t> wide_scratch[kBlockScratch];
  __shared__ int scratch[kBlockScratch];
  chain_release();
  chain_wait();
  if (blockIdx.x == 1) {
    static_assert(sizeof(keys) >= sizeof(uint32_t) * kGemmPlanChunk);
    make_gemm_plan(first.gemm_at(batch, static_cast<int>(blockIdx.y)),
                   reinterpret_cast<uint32_t*>(&keys[0][0]));
    return;
  }
  const DealParams p = first.at(batch, static_cast<int>(blockIdx.y));
  const int tid = threadIdx.x;
  const int grid = p.grid;
  using Cost = std::conditional_t<kShared, int32_t, int64_t>;
  using Place = std::conditional_t<kShared, uint16_t, int32_t>;
  int2* tile_rows = nullptr;  // of the t-th tile of all
  int32_t* tile_blocks;
  Cost* start;
  Place* places;  // [r * grid + cta]
  if constexpr (kShared) {
    tile_rows = reinterpret_cast<int2*>(dynamic);
    tile_blocks = reinterpret_cast<int32_t*>(tile_rows + p.capacity);
    start = tile_blocks + p.capacity;
    places = reinterpret_cast<uint16_t*>(start + p.capacity + 1);
  } else {
    tile_blocks = p.scratch.blocks;
    start = p.scratch.start;
    places = p.scratch.places;
  }

  constexpr int kBatch = 4;  // tiles of a thread whose loads are under way together
  // The groups' tiles, one after the other.
  int tiles;
  {
    const int size = tid < p.groups ? p.scratch.group_size[tid] : 0;
    const int begin = block_exclusive_sum(size, scratch, tiles);
    if (tid < p.groups) group_begin[tid] = begin;
    __syncthreads();
  }
  // Where the t-th tile of all lies. What the ranking wrote is read-only here: loads of several
  // tiles may be under way at once.
  const auto slot_of = [&](int t) {
    const int group = last_not_above(group_begin, p.groups, t);
    return static_cast<int>(group * p.group_stride) + (t - group_begin[group]);
  };
  const auto rows_of = [&](int t) {
    if constexpr (kShared) return tile_rows[t];
    return __ldg(p.scratch.tile_rows + slot_of(t));
  };
  const auto before = [&](int t, int steps) {
    return plan_blocks_before(steps, tile_blocks[t], p.blocks_per_step);
  };
  const int shift = p.blocks_per_step - 1;  // plan_steps() of one or two blocks a step
  const auto cost_of = [&](int blocks) {
    return ((blocks + shift) >> shift) * kCostPerStep + kCostPerTile;
  };
  Totals<Cost> totals{0, 0, 0};
  for (int base = tid; base < tiles; base += kBatch * kDealThreads) {
    int blocks[kBatch];
    int2 rows[kBatch];
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int slot = slot_of(min(base + n * kDealThreads, tiles - 1));
      blocks[n] = __ldg(p.scratch.counts + slot);
      if constexpr (kShared) rows[n] = __ldg(p.scratch.tile_rows + slot);
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int t = base + n * kDealThreads;
      if (t >= tiles) break;
      tile_blocks[t] = blocks[n];
      if constexpr (kShared) tile_rows[t] = rows[n];
      totals.cost += cost_of(blocks[n]);
      totals.blocks += blocks[n];
    }
  }
  for (int h = tid; h < p.heads_paired; h += kDealThreads) {
    totals.rows += __ldg(p.scratch.head_size + h);
  }
  totals = add_up(totals);
  const PlanShare share = plan_share(totals.cost, grid);
  if (tid == 0) {
    p.header->grid = grid;
    p.header->num_rows = p.heads_paired > 0 ? totals.rows : tiles;
    p.header->total_blocks = totals.blocks;
    for (int32_t& pad : p.header->pad) pad = 0;
  }

  // Whole tiles in rounds. `lanes` threads find the place of a CTA among all by its load so far;
  // its first thread keeps the load. Turns use the two halves of `keys` alternately, so that one
  // barrier a turn is enough: it also says whether a load passed the share in the turn before.
  // Warps without a CTA only come to the barrier.
  const int all_rounds = (tiles + grid - 1) / grid;
  const bool usual = grid <= kUsualGrid;
  constexpr int kLaneBits = 2;
  static_assert(1 << kLaneBits == kUsualLanes);
  const int lane_bits = usual ? kLaneBits : 0;
  const int lanes = 1 << lane_bits;
  const int cta = tid >> lane_bits;
  const int lane = tid & (lanes - 1);
  const int padded = usual ? kUsualGrid : (grid + 3) / 4 * 4;
  static_assert(kUsualGrid % (4 * kUsualLanes) == 0 && kUsualGrid * kUsualLanes <= kDealThreads);
  if (grid + tid < padded) keys[0][grid + tid] = keys[1][grid + tid] = kNoCta;
  if (tid == 0) base_load[1] = 0;
  __syncthreads();
  const bool deals = cta < grid;
  const bool warp_deals = tid / kWarp * kWarp >> lane_bits < grid;
  const Cost limit = static_cast<Cost>(share.share);
  Cost load = 0, load_before = 0, load_within = 0;
  int rounds = all_rounds;  // those that no CTA's share ends in
  int r = 0, r_before = 0;  // rounds dealt
  bool fits = true;
  bool in_last = false;  // this CTA got a tile of the last round
  for (int turn = 0;; ++turn) {
    int* turn_keys = keys[turn & 1];
    int own = 0;
    if (deals) {
      own = static_cast<int>(load - base_load[~turn & 1] + kLoadBase) << kCtaBits | cta;
      if (lane == 0) turn_keys[cta] = own;
      if (tid == 0) base_load[turn & 1] = load;  // CTA 0's, for the next turn
    }
    const bool over = __syncthreads_or(load > limit);
    if (fits && over) {
      fits = false;
      rounds = r_before;
      load_within = load_before;
    }
    if (r == all_rounds) break;
    load_before = load;
    r_before = r;
    const int turn_rounds = plan_turn_rounds(all_rounds - r);
    if (warp_deals) {
      int place;
      if (usual) {
        place = count_below<kUsualGrid / (4 * kUsualLanes)>(turn_keys, own, lane, lanes, padded);
        place = warp_reduce<kUsualLanes>(place, Add{});
      } else {
        place = count_below<0>(turn_keys, own, lane, lanes, padded);
      }
      const int first = r * grid;
      if (deals) {
        const int32_t* blocks = tile_blocks + first + place;
        Place* to = places + first + cta;
        if (turn_rounds == 1) {
          if (lane == 0) *to = static_cast<Place>(place);
          in_last = first + place < tiles;
          if (in_last) load += cost_of(*blocks);
        } else {  // of full rounds: more follow
          static_assert(kSingleRounds > 0);
#pragma unroll
          for (int n = 0; n < kTurnRounds; ++n) {
            if (lane == 0) to[n * grid] = static_cast<Place>(place);
            load += cost_of(blocks[n * grid]);
          }
        }
      }
    }
    r += turn_rounds;
  }
  const bool all_fit = __syncthreads_and(load <= static_cast<Cost>(share.share + share.slack));
  if (all_fit) rounds = all_rounds;
  const int dealt = min(tiles, rounds * grid);
  // From here on thread c follows CTA c.
  int* num_rounds = &keys[0][0];
  Cost* rooms = reinterpret_cast<Cost*>(cuts);
  static_assert(sizeof(cuts) >= sizeof(Cost) * kMaxPlanGrid);
  __syncthreads();
  if (cta < grid && lane == 0) {
    num_rounds[cta] = rounds - (all_fit && rounds > 0 && !in_last);
    rooms[cta] = all_fit ? 0 : limit - (fits ? load : load_within);
  }
  __syncthreads();
  const Cost room = tid < grid ? rooms[tid] : 0;
  const int dealt_to_this = tid < grid ? num_rounds[tid] : 0;

  // The left-over tiles end to end: start[k] is the cost before the k-th of them.
  const int left = tiles - dealt;
  Cost line = 0;
  for (int base = 0; base < left; base += kDealThreads) {
    const int k = base + tid;
    Cost chunk;
    const Cost before = block_exclusive_sum(
        k < left ? Cost{cost_of(tile_blocks[dealt + k])} : Cost{0}, wide_scratch, chunk);
    if (k < left) start[k] = line + before;
    line += chunk;
  }
  if (tid == 0) start[left] = line;

  // Where the shares end on the line.
  Cost all_room;
  const Cost position = block_exclusive_sum(room, wide_scratch, all_room) + room;
  if (tid < grid) {
    Cut cut{left, 0};
    if (position < line) {
      cut.tile = last_not_above(start, left, position);
      const int cost = cost_of(tile_blocks[dealt + cut.tile]);
      const Cost into = position - start[cut.tile];
      if (cost - into <= share.slack) {
        cut.tile += into > share.slack;
      } else if (into > share.slack) {
        cut.steps = static_cast<int>(into) / kCostPerStep;
      }
    }
    cuts[tid + 1] = cut;
    if (tid == 0) cuts[0] = {0, 0};
  }
  __syncthreads();
  // Every piece needs a kv block. Shares that end within the same one are rare.
  bool crowded = false;
  if (tid < grid) {
    const Cut last = cuts[tid], cut = cuts[tid + 1];
    crowded = last.steps > 0 && cut.tile == last.tile && cut.steps <= last.steps;
  }
  if (__syncthreads_or(crowded)) {
    if (tid == 0) {
      for (int c = 1; c <= grid; ++c) {
        const Cut last = cuts[c - 1];
        Cut cut = cuts[c];
        if (cut.tile < last.tile) {
          cut = last;
        } else if (cut.tile == last.tile && last.steps > 0 && cut.steps <= last.steps) {
          cut.steps = last.steps + 1;
          if (cut.steps >= steps_of(cost_of(tile_blocks[dealt + cut.tile])))
            cut = {cut.tile + 1, 0};
        }
        cuts[c] = cut;
      }
    }
    __syncthreads();
  }

  // The lists: continuation, dealt tiles, whole left-over tiles, first piece.
  Cut from{0, 0}, to{0, 0};
  int num_dealt = 0, num_whole = 0;
  bool opens = false;
  if (tid < grid) {
    from = cuts[tid];
    to = cuts[tid + 1];
    num_dealt = dealt_to_this;
    num_whole = max(0, to.tile - from.tile - (from.steps > 0));
    opens = to.steps > 0 && !(from.steps > 0 && from.tile == to.tile);
  }
  const int continues = from.steps > 0;
  int entries;
  const int first_entry =
      block_exclusive_sum(continues + num_dealt + num_whole + int(opens), scratch, entries);
  if (tid < grid) {
    p.offsets[tid] = first_entry;
    first_whole_entry[tid] = first_entry + continues;
    if (continues) {
      const int t = dealt + from.tile;
      const int skip = before(t, from.steps);
      const int end = to.tile == from.tile ? before(t, to.steps) : tile_blocks[t];
      write_work(p.work, first_entry, rows_of(t), skip, end - skip, AttentionWork::kPartial);
    }
    int entry = first_entry + continues + num_dealt;
    for (int k = 0; k < num_whole; ++k) {
      const int t = dealt + from.tile + continues + k;
      write_work(p.work, entry++, rows_of(t), 0, tile_blocks[t], AttentionWork::kWhole);
    }
    if (opens) {
      int merge = 0;
      while (cuts[tid + 1 + merge].tile == to.tile && cuts[tid + 1 + merge].steps > 0) ++merge;
      const int t = dealt + to.tile;
      write_work(p.work, entry, rows_of(t), 0, before(t, to.steps), merge);
    }
  }
  if (tid == 0) {
    p.offsets[grid] = entries;
    p.header->num_work = entries;
  }
  for (int k = tid; k < 2 * grid; k += kDealThreads) p.flags[k] = 0;
  __syncthreads();
  // A warp writes the dealt tiles of one CTA, which lie one after the other: single entries, 32
  // bytes each at places of their own, would take many times as long.
  for (int c = tid / kWarp; c < grid; c += kDealThreads / kWarp) {
    const int first = first_whole_entry[c];
    for (int n = tid % kWarp; n < num_rounds[c]; n += kWarp) {
      const int t = n * grid + places[n * grid + c];
      write_work(p.work, first + n, rows_of(t), 0, tile_blocks[t], AttentionWork::kWhole);
    }
  }
}

template <class Items>
Status launch_rank(cudaStream_t stream, const Items& items, int groups, int most,
                   const PlanBatch& batch, size_t plans) {
  const dim3 blocks(static_cast<unsigned>(groups),
                    static_cast<unsigned>((most + kRankThreads - 1) / kRankThreads),
                    static_cast<unsigned>(plans));
  return cuda_status(
      launch_chained(rank_items<Items>, blocks, kRankThreads, 0, stream, items, batch),
      "launching the ranking of attention tiles");
}

Status launch_deal(cudaStream_t stream, const DealParams& params, unsigned ctas,
                   const PlanBatch& batch, size_t plans) {
  bool shared = params.capacity <= kMaxSharedTiles;
  int bytes = 0;
  if (shared) {
    bytes = shared_bytes(params.capacity, params.grid);
    int device = 0, most = 0;
    FO_CUDA(cudaGetDevice(&device), "asking for the device");
    FO_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
            "asking how much shared memory there is");
    cudaFuncAttributes attributes;
    FO_CUDA(cudaFuncGetAttributes(&attributes, deal_tiles<true>), "asking for a kernel's memory");
    shared = static_cast<size_t>(bytes) + attributes.sharedSizeBytes <= static_cast<size_t>(most);
  }
  if (shared) {
    FO_CUDA(
        cudaFuncSetAttribute(deal_tiles<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "asking for shared memory for the attention plan");
  }
  return cuda_status(launch_chained(shared ? deal_tiles<true> : deal_tiles<false>,
                                    dim3(ctas, static_cast<unsigned>(plans)), kDealThreads,
                                    shared ? static_cast<size_t>(bytes) : 0, stream, params, batch),
                     "launching the dealing of attention tiles");
}

// REQUIRES: 1 to kMaxPlanBatch jobs of one geometry. `gemm`: of the first job; null: no such parts.
Status build(cudaStream_t stream, const SymbolGeometry& g, std::span<const PlanJob> jobs, int grid,
             int head_dim, const GemmPlanArgs* gemm) {
  FO_RETURN_IF_ERROR(check_attention_plan(g, grid));
  const AttentionPlanShape shape(g, head_dim);
  const AttentionPlanLayout layout(g, grid);
  PlanBatch batch{};
  for (size_t n = 0; n < jobs.size(); ++n) {
    const PlanJob& job = jobs[n];
    batch.entries[n] = {job.symbols.c, job.symbols.s, static_cast<char*>(job.section)};
  }
  const PlanBatch::Entry& first = batch.entries[0];
  char* base = first.section;
  const AttentionPlanScratch scratch(shape, int64_t{shape.heads} * g.num_q_blocks(), grid,
                                     base + layout.scratch);
  const DeviceSymbols symbols{first.c,           first.s,     g.num_q_blocks(),
                              g.num_kv_blocks(), g.c_words(), g.s_words()};
  const GroupTiles tiles{
      symbols,           shape.heads,    shape.heads_per_group, shape.tiles_per_head,
      scratch.tile_rows, scratch.counts, scratch.group_size};
  const int most = shape.heads_per_group * shape.tiles_per_head;
  if (shape.pairs) {
    const HeadRows rows{symbols, scratch.row_order, scratch.head_size};
    FO_RETURN_IF_ERROR(
        launch_rank(stream, rows, shape.heads, g.num_q_blocks(), batch, jobs.size()));
    const GroupPairs pairs{tiles, scratch.row_order, scratch.head_size};
    FO_RETURN_IF_ERROR(launch_rank(stream, pairs, shape.groups, most, batch, jobs.size()));
  } else {
    FO_RETURN_IF_ERROR(
        launch_rank(stream, GroupRows{tiles}, shape.groups, most, batch, jobs.size()));
  }
  return launch_deal(stream,
                     {.scratch = scratch,
                      .header = reinterpret_cast<AttentionPlanHeader*>(base + layout.header),
                      .offsets = reinterpret_cast<int32_t*>(base + layout.offsets),
                      .work = reinterpret_cast<int4*>(base + layout.work),
                      .flags = reinterpret_cast<int32_t*>(base + layout.flags),
                      .groups = shape.groups,
                      .group_stride = most,
                      .capacity = static_cast<int>(shape.tiles()),
                      .grid = grid,
                      .blocks_per_step = plan_blocks_per_step(g),
                      .heads_paired = shape.pairs ? shape.heads : 0,
                      .gemm = gemm ? *gemm : GemmPlanArgs{}},
                     gemm ? 2 : 1, batch, jobs.size());
}

}  // namespace

Status build_attention_plan(cudaStream_t stream, const SymbolsView& symbols, int grid, int head_dim,
                            void* section) {
  const PlanJob job{symbols, section, nullptr};
  return build(stream, symbols.geometry, {&job, 1}, grid, head_dim, nullptr);
}

Status build_plans(cudaStream_t stream, std::span<const PlanJob> jobs, int grid, int head_dim) {
  while (!jobs.empty()) {
    const auto now = jobs.first(std::min<size_t>(jobs.size(), kMaxPlanBatch));
    jobs = jobs.subspan(now.size());
    FO_ASSIGN_OR_RETURN(const GemmPlanArgs gemm,
                        gemm_plan_args(now[0].symbols, now[0].gemm_section));
    FO_RETURN_IF_ERROR(build(stream, now[0].symbols.geometry, now, grid, head_dim, &gemm));
  }
  return ok_status();
}

Status build_dense_attention_plan(cudaStream_t stream, const SymbolGeometry& geometry, int grid,
                                  int head_dim, void* section) {
  const PlanJob job{{}, section, nullptr};
  return build(stream, geometry, {&job, 1}, grid, head_dim, nullptr);
}

}  // namespace flashomni::cuda

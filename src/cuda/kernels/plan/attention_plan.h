// SPDX-License-Identifier: Apache-2.0
//
// Builders of the attention part of a plan: kernels on the device, and the same algorithm in plain
// C++ that they are checked against. How the lists are made:
//   tiles   block_q 128: every active query block. block_q 64: the active query blocks of a head,
//           most kv blocks first, two at a time; the kv blocks of a pair are those of either.
//   order   inside groups of heads whose keys and values fit the L2 cache together, most first.
//   deal    whole tiles in rounds over the CTAs, the largest of a round to the CTA that has least,
//           as long as no CTA gets more than its share; if that takes all tiles, up to `slack` more
//           is accepted. CTAs stay level all the way, and so in the same L2 group at the same time.
//           Who has least is found anew for each of the last rounds, and every few rounds before.
//   cut     the tiles left over, laid end to end, are cut where each CTA's share ends, between two
//           steps. A cut within `slack` of the border of a tile moves there.
// Ties go to the smaller row, so equal symbols give equal lists.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "cuda/attention_plan.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// Limits of one plan: a query or kv block index fits 15 bits, and one CTA deals for all.
constexpr int kMaxPlanBlocks = 32767;
constexpr int kMaxPlanGrid = 1024;
constexpr int kMaxPlanGroups = 1024;

// Numbers that both builders take from the geometry.
struct AttentionPlanShape {
  bool pairs;           // two query blocks a tile
  int heads;            // batch * heads
  int tiles_per_head;   // at most
  int heads_per_group;  // of an L2 group
  int groups;

  // REQUIRES: as AttentionPlanLayout.
  AttentionPlanShape(const SymbolGeometry& geometry, int head_dim);
  int64_t tiles() const { return int64_t{heads} * tiles_per_head; }
};

// The attention kernel takes kv blocks of 64 two at a time, an odd one first and alone; such a
// *step* costs the same as a block of 128, so that lists depend on the steps only: symbols that are
// all ones are dealt alike, and give the same bits, whatever their blocks.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline int
    plan_steps(int blocks, int blocks_per_step) {
  return (blocks + blocks_per_step - 1) / blocks_per_step;
}
// Kv blocks in the first `steps` steps of a tile of `blocks`.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline int
    plan_blocks_before(int steps, int blocks, int blocks_per_step) {
  return steps == 0 ? 0 : blocks - (plan_steps(blocks, blocks_per_step) - steps) * blocks_per_step;
}
inline int plan_blocks_per_step(const SymbolGeometry& geometry) {
  return kTileRows / geometry.block_kv;
}

// Costs are in quarters of a step: starting and ending a tile costs about three of them. Not more
// than a step: a cut further than that from both ends of a tile leaves both pieces a step.
constexpr int kCostPerStep = 4;
constexpr int kCostPerTile = 3;
static_assert(kCostPerTile <= kCostPerStep);
// The share of a CTA is never less than this many steps: handing over a piece of a tile costs more
// than the balance gains.
constexpr int kMinShareSteps = 4;

// Rounds that are dealt in one turn, to the CTAs in the same order, when so many are left.
constexpr int kTurnRounds = 4;
constexpr int kSingleRounds = 8;
#ifdef __CUDACC__
__host__ __device__
#endif
    inline int
    plan_turn_rounds(int left) {
  return left >= kTurnRounds + kSingleRounds ? kTurnRounds : 1;
}

// Which heads share the L2 cache is decided for this head_dim: a plan does not know its own.
constexpr int kPlanHeadDim = 128;

struct PlanShare {
  int64_t share;  // of a CTA
  int64_t slack;  // the larger of one step and 2 %
};
// Cost: of 32 bits where the total has no more, since a GPU divides 64 bits slowly.
template <class Cost>
#ifdef __CUDACC__
__host__ __device__
#endif
    inline PlanShare
    plan_share(Cost total_cost, int grid) {
  constexpr Cost kLeast = kMinShareSteps * kCostPerStep + kCostPerTile;
  const Cost even = (total_cost + grid - 1) / grid;
  const Cost share = even > kLeast ? even : kLeast;
  const Cost slack = share / 50;
  return {share, slack > kCostPerStep ? slack : kCostPerStep};
}

// Says why there can be no plan of this geometry.
Status check_attention_plan(const SymbolGeometry& geometry, int grid);

// Queues the kernels; `section` is device memory of AttentionPlanLayout(geometry, grid).bytes at a
// multiple of 256. Active query blocks without any kv block get no work.
Status build_attention_plan(cudaStream_t stream, const SymbolsView& symbols, int grid, int head_dim,
                            void* section);
// The plans of one geometry with their GEMM-O parts (see gemm_plan.h), in as many launches as one
// of them takes, up to kMaxPlanBatch; then again. `gemm_section` lies as far from `section` in all.
constexpr int kMaxPlanBatch = 64;
struct PlanJob {
  SymbolsView symbols;
  void* section;
  void* gemm_section;
};
Status build_plans(cudaStream_t stream, std::span<const PlanJob> jobs, int grid, int head_dim);
// The same lists for symbols that are all ones, without any symbols.
Status build_dense_attention_plan(cudaStream_t stream, const SymbolGeometry& geometry, int grid,
                                  int head_dim, void* section);

// The same lists in host memory, from symbols in host memory (null: all ones). Writes the header,
// the offsets, the entries in use and the flags.
void build_attention_plan_on_host(const SymbolGeometry& geometry, const uint64_t* c,
                                  const uint64_t* s, int grid, int head_dim, void* section);

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "cuda/error.h"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/plan/gemm_plan.cuh"
#include "cuda/kernels/plan/gemm_plan.h"

namespace flashomni::cuda {
namespace {

__global__ void __launch_bounds__(kGemmPlanThreads)
    gemm_plan_kernel(const __grid_constant__ GemmPlanArgs p) {
  __shared__ __align__(16) uint32_t keys[kGemmPlanChunk];
  chain_release();
  chain_wait();
  make_gemm_plan(p, keys);
}

}  // namespace

Result<GemmPlanArgs> gemm_plan_args(const SymbolsView& symbols, void* section) {
  const SymbolGeometry& g = symbols.geometry;
  FO_RETURN_IF_ERROR(g.validate());
  if (g.block_q != 64 && g.block_q != 128) {
    return unsupported("block_q of the symbols is " + std::to_string(g.block_q) +
                       ", wanted 64 or 128");
  }
  const GemmPlanLayout layout(g);
  if (int64_t{g.batch} * layout.tiles >= 1 << kEntryBits) {
    return unsupported("number of row tiles is " + std::to_string(int64_t{g.batch} * layout.tiles) +
                       ", wanted fewer than " + std::to_string(1 << kEntryBits) + " in a plan");
  }
  char* base = static_cast<char*>(section);
  GemmPlanArgs args;
  args.c = symbols.c;
  args.heads = reinterpret_cast<uint64_t*>(base + layout.heads);
  args.order = reinterpret_cast<uint32_t*>(base + layout.order);
  args.batch = g.batch;
  args.num_heads = g.heads;
  args.c_words = g.c_words();
  args.head_words = layout.head_words;
  args.num_q_blocks = g.num_q_blocks();
  args.tiles = layout.tiles;
  args.blocks_per_tile = kGemmTileRows / g.block_q;
  return args;
}

Status build_gemm_plan(cudaStream_t stream, const SymbolsView& symbols, void* section) {
  FO_ASSIGN_OR_RETURN(const GemmPlanArgs args, gemm_plan_args(symbols, section));
  return cuda_status(launch_chained(gemm_plan_kernel, 1, kGemmPlanThreads, 0, stream, args),
                     "launching the plan of GEMM-O");
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
#include "cuda/dense_plans.h"

#include <cstddef>
#include <vector>

#include "cuda/attention_plan.h"
#include "cuda/error.h"
#include "cuda/kernels/plan/attention_plan.h"

namespace flashomni::cuda {

SymbolGeometry DensePlans::geometry_of(const AttentionParams& p) {
  SymbolGeometry g;
  g.batch = static_cast<int>(p.q.size(0));
  g.heads = static_cast<int>(p.q.size(2));
  g.q_tokens = static_cast<int>(p.q.size(1));
  g.kv_tokens = static_cast<int>(p.k.size(1));
  g.block_q = g.block_kv = kTileRows;
  return g;
}

Result<void*> DensePlans::get(const AttentionParams& params) {
  const SymbolGeometry g = geometry_of(params);
  const int head_dim = static_cast<int>(params.q.size(3));
  const Shape shape = {g.batch * g.heads, g.q_tokens, g.kv_tokens, head_dim};
  DevicePointer& plan = plans_[shape];
  if (plan) return plan.get();

  std::vector<std::byte> host(AttentionPlanLayout(g, grid_).bytes);
  build_attention_plan_on_host(g, nullptr, nullptr, grid_, kPlanHeadDim, host.data());
  FO_ASSIGN_OR_RETURN(
      plan, allocate_device_memory(host.size(), "allocating the work lists of dense attention"));
  FO_CUDA(cudaMemcpy(plan.get(), host.data(), host.size(), cudaMemcpyHostToDevice),
          "copying the work lists of dense attention");
  return plan.get();
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// FlashOmni as a library: one attention call, dense and then under hand-made symbols. The symbols
// keep a window around the diagonal and every block of the first query block, whose rows therefore
// must come out as in the dense call.
#include <flashomni/backend.h>
#include <flashomni/symbols.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

using namespace flashomni;

namespace {

constexpr int kTokens = 4096, kHeads = 8, kHeadDim = 64, kWindow = 4;

Status run() {
  FO_ASSIGN_OR_RETURN(auto backend, make_backend("cpu"));

  SymbolGeometry geometry{.heads = kHeads, .q_tokens = kTokens, .kv_tokens = kTokens};
  SparseSymbols symbols(geometry);  // all ones: everything is computed
  for (int h = 0; h < kHeads; ++h)
    for (int i = 1; i < geometry.num_q_blocks(); ++i)
      for (int j = 0; j < geometry.num_kv_blocks(); ++j)
        symbols.set_s(0, h, i, j, std::abs(i - j) <= kWindow);

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> tensors[5];  // q, k, v, dense and sparse output
  TensorView views[5];
  for (int t = 0; t < 5; ++t) {
    tensors[t].resize(size_t{kTokens} * kHeads * kHeadDim);
    if (t < 3) std::generate(tensors[t].begin(), tensors[t].end(), [&] { return normal(random); });
    views[t] =
        TensorView::contiguous(tensors[t].data(), DType::kF32, {1, kTokens, kHeads, kHeadDim});
  }

  const size_t plan_bytes = backend->plan_bytes(geometry);
  FO_ASSIGN_OR_RETURN(auto plan, backend->allocate(plan_bytes));
  AttentionParams dense{.q = views[0], .k = views[1], .v = views[2], .out = views[3]};
  AttentionParams sparse = dense;
  sparse.out = views[4];
  sparse.symbols = symbols.view();
  sparse.plan = {plan->data(), plan_bytes};

  const size_t bytes = std::max(backend->workspace_bytes(dense), backend->workspace_bytes(sparse));
  FO_ASSIGN_OR_RETURN(auto workspace, backend->allocate(bytes));
  const Exec exec{.workspace = workspace->data(), .workspace_bytes = bytes};
  FO_RETURN_IF_ERROR(backend->plan(exec, {.symbols = sparse.symbols, .plan = sparse.plan}));

  double ms[2] = {1e30, 1e30};  // best of a few calls
  for (int call = 0; call < 6; ++call) {
    const auto start = std::chrono::steady_clock::now();
    FO_RETURN_IF_ERROR(backend->attention(exec, call % 2 ? sparse : dense));
    FO_RETURN_IF_ERROR(backend->synchronize(exec));
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    ms[call % 2] = std::min(ms[call % 2], time.count());
  }

  float difference = 0;  // over the rows that both calls computed in full
  for (size_t i = 0; i < size_t(geometry.block_q) * kHeads * kHeadDim; ++i)
    difference = std::max(difference, std::fabs(tensors[3][i] - tensors[4][i]));
  std::printf("dense %.1f ms, sparse %.1f ms at density %.3f, max difference %g\n", ms[0], ms[1],
              symbols.counts().pair_density(), difference);
  return difference == 0 ? ok_status() : internal_error("full rows differ from the dense call");
}

}  // namespace

int main() {
  const Status status = run();
  if (!status.ok()) std::fprintf(stderr, "consumer: %s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}

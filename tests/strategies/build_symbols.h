// SPDX-License-Identifier: Apache-2.0
//
// One build of a strategy on random queries and keys, as the engine would ask for it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "flashomni/strategies.h"

namespace flashomni {

struct Built {
  SparseSymbols symbols;
  std::vector<float> q, k;  // [B, N, H, d]
};

inline SequenceInfo sequence(int tokens, int text_end, int heads = 2, int head_dim = 16) {
  SequenceInfo s;
  s.heads = heads;
  s.head_dim = head_dim;
  s.tokens = tokens;
  s.text_end = text_end;
  return s;
}

inline RunInfo run_of(const SequenceInfo& s, int steps = 50, int layers = 1) {
  RunInfo run{.steps = steps, .streams = 1, .layers = layers, .sequence = s};
  for (int l = 0; l < layers; ++l) run.layer_names.push_back("blocks." + std::to_string(l));
  return run;
}

// Runs begin_run and one build at `step` of 50 on random q and k. `previous` and the like are
// taken from `more`, whose other fields are filled in.
inline Built build(Strategy& strategy, const SequenceInfo& s, int step = 25, uint64_t seed = 1,
                   BuildContext more = {}) {
  auto backend = std::move(*make_backend("cpu"));
  const Status begun = strategy.begin_run(run_of(s));
  EXPECT_TRUE(begun.ok()) << begun.message();
  EXPECT_TRUE(strategy.prepare(*backend, {}).ok());
  Built out;
  Rng rng(seed);
  const size_t n = size_t(s.batch) * size_t(s.tokens) * size_t(s.heads) * size_t(s.head_dim);
  for (size_t i = 0; i < n; ++i) {
    out.q.push_back(static_cast<float>(2 * rng.normal()));
    out.k.push_back(static_cast<float>(2 * rng.normal()));
  }
  SymbolGeometry g;
  g.batch = s.batch;
  g.heads = s.heads;
  g.q_tokens = g.kv_tokens = s.tokens;
  g.block_q = strategy.block_q();
  g.block_kv = strategy.block_kv();
  const auto starts = strategy.block_starts(s);
  EXPECT_TRUE(starts.ok()) << starts.status().message();
  if (!starts->empty()) g.ragged_blocks = static_cast<int>(starts->size()) - 1;
  out.symbols = SparseSymbols(g, *starts);
  std::vector<uint64_t> scratch(strategy.scratch_bytes(s) / 8 + 1);
  BuildContext c = more;
  c.backend = backend.get();
  c.step = {step, 50, step};
  c.sequence = s;
  c.block_starts = *starts;
  c.q = TensorView::contiguous(out.q.data(), DType::kF32, {s.batch, s.tokens, s.heads, s.head_dim});
  c.k = TensorView::contiguous(out.k.data(), DType::kF32, {s.batch, s.tokens, s.heads, s.head_dim});
  c.scratch = scratch.data();
  const Status status = strategy.build(c, out.symbols.view());
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(out.symbols.validate().ok()) << out.symbols.validate().message();
  return out;
}

}  // namespace flashomni

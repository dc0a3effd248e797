// SPDX-License-Identifier: Apache-2.0
//
// Backend memory of one build, carved from the scratch that the engine gives; and the pooled
// queries, keys and scores that most selectors start from.
#pragma once

#include <initializer_list>

#include "flashomni/strategy.h"

namespace flashomni::strategies {

// Hands out pieces of `base`, or with a null base only counts their bytes.
class ScratchArena {
 public:
  explicit ScratchArena(void* base) : next_(static_cast<char*>(base)) {}
  TensorView take(DType type, std::initializer_list<int64_t> dims) {
    TensorView v = TensorView::contiguous(next_ ? next_ + bytes_ : nullptr, type, dims);
    bytes_ += (v.bytes() + 63) / 64 * 64;
    return v;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* next_;
  size_t bytes_ = 0;
};

inline int64_t block_count(int tokens, int block) {
  return (int64_t{tokens} + block - 1) / block;
}

struct PooledScratch {
  TensorView mean, q, k, gate_q, gate_k, scores;

  // `ragged_blocks` as of SymbolGeometry.
  PooledScratch(ScratchArena& arena, const SequenceInfo& s, int block_q, int block_kv,
                int ragged_blocks = 0) {
    const int64_t nq = ragged_blocks > 0 ? ragged_blocks : block_count(s.tokens, block_q);
    const int64_t nk = ragged_blocks > 0 ? ragged_blocks : block_count(s.tokens, block_kv);
    mean = arena.take(DType::kF32, {s.batch, s.heads, s.head_dim});
    q = arena.take(DType::kF32, {s.batch, s.heads, nq, s.head_dim});
    k = arena.take(DType::kF32, {s.batch, s.heads, nk, s.head_dim});
    gate_q = arena.take(DType::kU8, {s.batch, s.heads, nq});
    gate_k = arena.take(DType::kU8, {s.batch, s.heads, nk});
    scores = arena.take(DType::kF32, {s.batch, s.heads, nq, nk});
  }
};

struct PoolingOptions {
  int block_q = 64;
  int block_kv = 64;
  bool smooth_k = false;  // subtract the mean key before pooling
  bool gate = false;      // judge the similarity of the tokens of each block
  double theta_sim = 0;
  const int32_t* starts = nullptr;  // of ragged blocks, in backend memory
};

// scores = pooled Q times pooled K^T / sqrt(d); gates where asked for.
inline Status pooled_scores(const BuildContext& c, const PoolingOptions& o,
                            const PooledScratch& w) {
  Backend& b = *c.backend;
  if (o.smooth_k) FO_RETURN_IF_ERROR(b.token_mean(c.exec, {c.k, w.mean}));
  PoolParams q{.x = c.q, .block = o.block_q, .out = w.q, .starts = o.starts};
  PoolParams k{.x = c.k, .block = o.block_kv, .out = w.k, .starts = o.starts};
  if (o.smooth_k) k.mean = w.mean;
  if (o.gate) {
    q.gate = w.gate_q;
    k.gate = w.gate_k;
    q.theta_sim = k.theta_sim = static_cast<float>(o.theta_sim);
  }
  FO_RETURN_IF_ERROR(b.pool_pair(c.exec, q, k));
  return b.block_scores(c.exec, {.q = w.q, .k = w.k, .out = w.scores});
}

// S_c = 1 everywhere.
inline Status compute_all_rows(const BuildContext& c, const TensorView& scores, SymbolsView out) {
  return c.backend->select_cached_rows(c.exec, {.scores = scores, .theta = -1.f, .symbols = out});
}

}  // namespace flashomni::strategies

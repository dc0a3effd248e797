// SPDX-License-Identifier: Apache-2.0
//
// The largest workspace among the operations that a model is going to run.
#pragma once

#include <algorithm>

#include "models/weights.h"

namespace flashomni {

class WorkspaceSize {
 public:
  explicit WorkspaceSize(const Backend& backend) : backend_(backend) {}

  template <class Params>
  void add(const Params& params) {
    bytes_ = std::max(bytes_, backend_.workspace_bytes(params));
  }
  // [rows, in] -> [rows, out].
  void linear(const Weight& weight, DType x, int64_t rows, DType out) {
    LinearParams p{.x = shape_only(x, {1, rows, weight->in_features()}), .weight = weight.get()};
    p.out = shape_only(out, {1, rows, weight->out_features()});
    add(p);
  }
  void linear(const Weight& weight, DType dtype, int64_t rows) {
    linear(weight, dtype, rows, dtype);
  }
  // The same, added to a residual under a gate.
  void gated_linear(const Weight& weight, DType dtype, int64_t rows) {
    LinearParams p{.x = shape_only(dtype, {1, rows, weight->in_features()}),
                   .weight = weight.get()};
    p.residual = shape_only(dtype, {1, rows, weight->out_features()});
    p.gate = shape_only(DType::kF32, {1, weight->out_features()});
    add(p);
  }
  // Attention of a layer that the engine runs, dense or by symbols of any block size.
  void attention(AttentionParams params) {
    add(params);
    SymbolGeometry& g = params.symbols.geometry;
    g.batch = static_cast<int>(params.q.size(0));
    g.heads = static_cast<int>(params.q.size(2));
    g.q_tokens = static_cast<int>(params.q.size(1));
    g.kv_tokens = static_cast<int>(params.k.size(1));
    const TensorView stand_in = shape_only(DType::kU64, {1});
    params.symbols.c = params.symbols.s = stand_in.as<uint64_t>();
    for (const int block_q : {32, 64, 128}) {
      for (const int block_kv : {32, 64, 128}) {
        g.block_q = block_q;
        g.block_kv = block_kv;
        params.plan = {stand_in.data, backend_.plan_bytes(g)};
        add(params);
      }
    }
  }
  size_t bytes() const { return bytes_; }

 private:
  const Backend& backend_;
  size_t bytes_ = 0;
};

}  // namespace flashomni

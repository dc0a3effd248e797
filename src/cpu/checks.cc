// SPDX-License-Identifier: Apache-2.0
#include "cpu/checks.h"

#include <algorithm>
#include <span>
#include <string>

#include "core/gemm_qkv_check.h"
#include "core/plan.h"
#include "core/symbols_view.h"
#include "cpu/packed_weight.h"
#include "cpu/tensor_checks.h"

namespace flashomni::cpu {
namespace {

constexpr int kMaxHeadDim = 256;

Status check_weight(const KernelTable& kernels, const PackedWeight* weight, int64_t in,
                    int head_dim, const CpuPackedWeight** out) {
  if (!weight) return wanted("weight", "missing", "a packed weight");
  const CpuPackedWeight* w = cpu_weight(weight);
  if (!w || w->kernels() != &kernels) {
    return invalid_argument("weight was packed by another backend, wanted one packed by this one");
  }
  if (w->in_features() != in) {
    return wanted("in features of the weight", std::to_string(w->in_features()),
                  std::to_string(in));
  }
  const int64_t group = head_dim > 0 ? head_dim : w->out_features();
  if (w->group_size() != group) {
    return wanted("out_head_dim of the weight",
                  w->has_heads() ? std::to_string(w->group_size()) : "0", std::to_string(head_dim));
  }
  *out = w;
  return ok_status();
}

// Outputs of the linear-like operations.
Status check_result(const TensorView& out, const TensorView& residual, const TensorView& gate,
                    int64_t batch, int64_t rows, int64_t width) {
  if (!out && !residual) return wanted("result", "neither out nor residual", "at least one");
  FO_RETURN_IF_ERROR(check_optional("out", out, DType::kF32, {batch, rows, width}));
  FO_RETURN_IF_ERROR(check_optional("residual", residual, DType::kF32, {batch, rows, width}));
  return check_optional("gate", gate, DType::kF32, {batch, width});
}

// Row tiles of a projection are blocks of one size.
Status refuse_ragged(const char* operation, const SymbolsView& symbols) {
  if (!symbols.geometry.ragged()) return ok_status();
  return unsupported(std::string(operation) +
                     " with symbols of ragged blocks, wanted blocks of one size");
}

Status check_gemm_o_common(const KernelTable& kernels, const GemmOParams& p,
                           const TensorView& attn) {
  const int64_t batch = attn.size(0), tokens = attn.size(1), heads = attn.size(2);
  const int64_t d = attn.size(3);
  if (d < 1 || d > kMaxHeadDim) {
    return unsupported("head_dim is " + std::to_string(d) + ", wanted 1.." +
                       std::to_string(kMaxHeadDim));
  }
  if (kernels.products != DType::kF32 && d % 2 != 0) {
    return unsupported("head_dim is " + std::to_string(d) +
                       ", wanted an even one for products in bf16");
  }
  int64_t in = heads * d;
  if (p.mlp) {
    FO_RETURN_IF_ERROR(check_rank("mlp", p.mlp, 3));
    FO_RETURN_IF_ERROR(check_tensor("mlp", p.mlp, DType::kF32, {batch, p.rows, p.mlp.size(2)}));
    in += p.mlp.size(2);
  }
  const CpuPackedWeight* w = nullptr;
  FO_RETURN_IF_ERROR(check_weight(kernels, p.weight, in, 0, &w));
  FO_RETURN_IF_ERROR(check_segment(p.token_offset, p.rows, tokens));
  FO_RETURN_IF_ERROR(refuse_ragged("GEMM-O", p.symbols));
  return check_optional_symbols(p.symbols, batch, heads, tokens, -1);
}

Status check_planes(const GemmOParams& p, const TensorView& attn, int64_t width) {
  FO_RETURN_IF_ERROR(check_count("num_planes", p.num_planes, GemmOParams::kMaxPlanes));
  for (int m = 0; m < p.num_planes; ++m) {
    const std::string name = "planes[" + std::to_string(m) + "]";
    FO_RETURN_IF_ERROR(
        check_tensor(name.c_str(), p.planes[m], DType::kF32, {attn.size(0), attn.size(1), width}));
  }
  return ok_status();
}

}  // namespace

Status check_weight_desc(const WeightDesc& desc) {
  FO_RETURN_IF_ERROR(check_rank("weight", desc.weight, 2));
  const TensorView& w = desc.weight;
  FO_RETURN_IF_ERROR(check_float_dtype("weight", w.dtype));
  if (w.size(0) < 1 || w.size(1) < 1) return wanted("weight", w.to_string(), "a non-empty matrix");
  FO_RETURN_IF_ERROR(check_tensor("weight", w, w.dtype, {w.size(0), w.size(1)}));
  if (desc.bias) {
    FO_RETURN_IF_ERROR(check_float_dtype("bias", desc.bias.dtype));
    FO_RETURN_IF_ERROR(check_tensor("bias", desc.bias, desc.bias.dtype, {w.size(0)}));
  }
  if (desc.out_head_dim < 0 || (desc.out_head_dim > 0 && w.size(0) % desc.out_head_dim != 0)) {
    return wanted("out_head_dim", std::to_string(desc.out_head_dim),
                  "0 or a divisor of " + std::to_string(w.size(0)));
  }
  return ok_status();
}

Status check_attention(const AttentionParams& p) {
  FO_RETURN_IF_ERROR(check_rank("q", p.q, 4));
  FO_RETURN_IF_ERROR(check_float_dtype("q", p.q.dtype));
  const int64_t batch = p.q.size(0), tokens = p.q.size(1), heads = p.q.size(2), d = p.q.size(3);
  if (d < 2 || d > kMaxHeadDim || d % 2 != 0) {
    return unsupported("head_dim is " + std::to_string(d) + ", wanted an even number in 2.." +
                       std::to_string(kMaxHeadDim));
  }
  FO_RETURN_IF_ERROR(check_tensor("q", p.q, p.q.dtype, {batch, tokens, heads, d}));
  FO_RETURN_IF_ERROR(check_rank("k", p.k, 4));
  const int64_t kv = p.k.size(1);
  if (kv < 1) return wanted("number of key tokens", std::to_string(kv), "at least 1");
  FO_RETURN_IF_ERROR(check_tensor("k", p.k, p.q.dtype, {batch, kv, heads, d}));
  FO_RETURN_IF_ERROR(check_tensor("v", p.v, p.q.dtype, {batch, kv, heads, d}));
  FO_RETURN_IF_ERROR(check_tensor("out", p.out, p.q.dtype, {batch, tokens, heads, d}));
  FO_RETURN_IF_ERROR(check_optional("lse", p.lse, DType::kF32, {batch, heads, tokens}));
  if (!(p.softmax_skip >= 0)) {
    return wanted("softmax_skip", std::to_string(p.softmax_skip), "0 (off) or more powers of two");
  }
  FO_RETURN_IF_ERROR(check_optional_symbols(p.symbols, batch, heads, tokens, kv));
  if (!p.symbols) return ok_status();
  if (p.symbols.geometry.ragged() && p.softmax_skip > 0) {
    return unsupported("softmax_skip is " + std::to_string(p.softmax_skip) +
                       " with ragged blocks, wanted 0: it leaves out groups of keys that blocks "
                       "must not cut");
  }
  const size_t bytes = plan_bytes(p.symbols.geometry);
  if (!p.plan || p.plan.bytes < bytes) {
    return wanted("plan", p.plan ? std::to_string(p.plan.bytes) + " bytes" : "missing",
                  "the plan of these symbols, " + std::to_string(bytes) + " bytes");
  }
  return ok_status();
}

Status check_linear(const KernelTable& kernels, const LinearParams& p) {
  if (!p.x) return wanted("x", "missing", "[B,M,K] or [M,K]");
  if (p.x.rank != 2 && p.x.rank != 3) return wanted("x", p.x.to_string(), "rank 2 or 3");
  const int64_t batch = p.x.rank == 3 ? p.x.size(0) : 1;
  const int64_t rows = p.x.size(p.x.rank - 2), in = p.x.size(p.x.rank - 1);
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  const CpuPackedWeight* w = nullptr;
  FO_RETURN_IF_ERROR(check_weight(kernels, p.weight, in, 0, &w));
  if (p.x.rank == 3) {
    return check_result(p.out, p.residual, p.gate, batch, rows, w->out_features());
  }
  if (!p.out && !p.residual) return wanted("result", "neither out nor residual", "at least one");
  FO_RETURN_IF_ERROR(check_optional("out", p.out, DType::kF32, {rows, w->out_features()}));
  FO_RETURN_IF_ERROR(
      check_optional("residual", p.residual, DType::kF32, {rows, w->out_features()}));
  return check_optional("gate", p.gate, DType::kF32, {1, w->out_features()});
}

Status check_gemm_q(const KernelTable& kernels, const GemmQParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 3));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  FO_RETURN_IF_ERROR(check_rank("out", p.out, 4));
  const int64_t batch = p.x.size(0), rows = p.x.size(1);
  const int64_t tokens = p.out.size(1), heads = p.out.size(2), d = p.out.size(3);
  FO_RETURN_IF_ERROR(check_tensor("out", p.out, DType::kF32, {batch, tokens, heads, d}));
  if (d < 2 || d > kMaxHeadDim || d % 2 != 0) {
    return unsupported("head_dim is " + std::to_string(d) + ", wanted an even number in 2.." +
                       std::to_string(kMaxHeadDim));
  }
  const CpuPackedWeight* w = nullptr;
  FO_RETURN_IF_ERROR(check_weight(kernels, p.weight, p.x.size(2), static_cast<int>(d), &w));
  if (w->out_features() != heads * d) {
    return wanted("out features of the weight", std::to_string(w->out_features()),
                  std::to_string(heads * d));
  }
  FO_RETURN_IF_ERROR(check_segment(p.token_offset, rows, tokens));
  FO_RETURN_IF_ERROR(check_optional("rms_weight", p.rms_weight, DType::kF32, {d}));
  if (bool(p.rope.cos) != bool(p.rope.sin)) {
    return wanted("rope", p.rope.cos ? "cos without sin" : "sin without cos", "both or neither");
  }
  FO_RETURN_IF_ERROR(check_optional("rope.cos", p.rope.cos, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(check_optional("rope.sin", p.rope.sin, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(refuse_ragged("GEMM-Q", p.symbols));
  return check_optional_symbols(p.symbols, batch, heads, tokens, -1);
}

Status check_gemm_qkv(const KernelTable& kernels, const GemmQkvParams& p) {
  for (const GemmQParams* one : {&p.q, &p.k, &p.v}) {
    FO_RETURN_IF_ERROR(check_gemm_q(kernels, *one));
  }
  return check_gemm_qkv_agreement(p);
}

Status check_gemm_o(const KernelTable& kernels, const GemmOParams& p) {
  FO_RETURN_IF_ERROR(check_rank("attn", p.attn, 4));
  FO_RETURN_IF_ERROR(check_f32("attn", p.attn));
  FO_RETURN_IF_ERROR(check_gemm_o_common(kernels, p, p.attn));
  const int64_t width = p.weight->out_features();
  FO_RETURN_IF_ERROR(check_result(p.out, p.residual, p.gate, p.attn.size(0), p.rows, width));
  return p.symbols ? check_planes(p, p.attn, width) : ok_status();
}

Status check_gemm_o_update(const KernelTable& kernels, const GemmOUpdateParams& p) {
  const TensorView& fresh = p.factors[0];
  FO_RETURN_IF_ERROR(check_rank("factors[0]", fresh, 4));
  FO_RETURN_IF_ERROR(check_f32("factors[0]", fresh));
  FO_RETURN_IF_ERROR(check_gemm_o_common(kernels, p.base, fresh));
  const int64_t width = p.base.weight->out_features();
  FO_RETURN_IF_ERROR(check_planes(p.base, fresh, width));
  for (int m = 1; m < p.base.num_planes; ++m) {
    const std::string name = "factors[" + std::to_string(m) + "]";
    FO_RETURN_IF_ERROR(check_like(name.c_str(), p.factors[m], fresh));
    if (p.factors[m].stride[2] != fresh.stride[2]) {
      return wanted("head stride of " + name, std::to_string(p.factors[m].stride[2]),
                    "that of factors[0], " + std::to_string(fresh.stride[2]));
    }
  }
  if (!p.base.out && !p.base.residual) return ok_status();
  return check_result(p.base.out, p.base.residual, p.base.gate, fresh.size(0), p.base.rows, width);
}

Status check_norm_modulate(const NormModulateParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 3));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  FO_RETURN_IF_ERROR(check_tensor("scale", p.scale, DType::kF32, {p.x.size(0), p.x.size(2)}));
  FO_RETURN_IF_ERROR(check_tensor("shift", p.shift, DType::kF32, {p.x.size(0), p.x.size(2)}));
  return check_like("out", p.out, p.x);
}

Status check_rms_norm(const RmsNormParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  const int64_t tokens = p.x.size(1), heads = p.x.size(2), d = p.x.size(3);
  if (d % 2 != 0) return wanted("head_dim", std::to_string(d), "an even number");
  FO_RETURN_IF_ERROR(check_tensor("weight", p.weight, DType::kF32, {heads * d}));
  FO_RETURN_IF_ERROR(check_optional("rope cos", p.rope.cos, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(check_optional("rope sin", p.rope.sin, DType::kF32, {tokens, d / 2}));
  if (bool(p.rope.cos) == bool(p.rope.sin)) return ok_status();
  return wanted("rope", p.rope.cos ? "cos alone" : "sin alone", "both or neither");
}

Status check_token_mean(const TokenMeanParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  if (p.x.size(1) < 1) return wanted("number of tokens", "0", "at least 1");
  return check_tensor("out", p.out, DType::kF32, {p.x.size(0), p.x.size(2), p.x.size(3)});
}

Status check_pool(const PoolParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  if (p.block < 1) return wanted("block", std::to_string(p.block), "at least 1");
  const int64_t batch = p.x.size(0), heads = p.x.size(2), d = p.x.size(3);
  int64_t blocks = ceil_div(p.x.size(1), p.block);
  if (p.starts) {
    FO_RETURN_IF_ERROR(check_rank("out", p.out, 4));
    blocks = p.out.size(2);
    const std::span starts(p.starts, static_cast<size_t>(blocks) + 1);
    FO_RETURN_IF_ERROR(validate_starts(p.x.size(1), p.block, starts));
  }
  FO_RETURN_IF_ERROR(check_optional("mean", p.mean, DType::kF32, {batch, heads, d}));
  FO_RETURN_IF_ERROR(check_optional("gate", p.gate, DType::kU8, {batch, heads, blocks}));
  return check_tensor("out", p.out, DType::kF32, {batch, heads, blocks, d});
}

Status check_block_scores(const BlockScoresParams& p) {
  FO_RETURN_IF_ERROR(check_rank("q", p.q, 4));
  FO_RETURN_IF_ERROR(check_f32("q", p.q));
  FO_RETURN_IF_ERROR(check_rank("k", p.k, 4));
  const int64_t batch = p.q.size(0), heads = p.q.size(1), d = p.q.size(3);
  FO_RETURN_IF_ERROR(check_tensor("k", p.k, DType::kF32, {batch, heads, p.k.size(2), d}));
  return check_tensor("out", p.out, DType::kF32, {batch, heads, p.q.size(2), p.k.size(2)});
}

Status check_select_cached_rows(const SelectCachedRowsParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads, -1, -1));
  const int64_t nq = p.symbols.geometry.num_q_blocks(), nkv = p.symbols.geometry.num_kv_blocks();
  FO_RETURN_IF_ERROR(check_tensor("scores", p.scores, DType::kF32, {batch, heads, nq, nkv}));
  // Which kv blocks hold the tokens of a query block is known of blocks of one size.
  if (p.theta >= 0) FO_RETURN_IF_ERROR(refuse_ragged("choosing cached rows", p.symbols));
  FO_RETURN_IF_ERROR(check_range("text_q", p.text_q, nq));
  FO_RETURN_IF_ERROR(check_range("text_kv", p.text_kv, nkv));
  return check_optional("gate_q", p.gate_q, DType::kU8, {batch, heads, nq});
}

Status check_select_kv_blocks(const SelectKvBlocksParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads, -1, -1));
  const int64_t nq = p.symbols.geometry.num_q_blocks(), nkv = p.symbols.geometry.num_kv_blocks();
  FO_RETURN_IF_ERROR(check_tensor("scores", p.scores, DType::kF32, {batch, heads, nq, nkv}));
  FO_RETURN_IF_ERROR(check_range("keep_q", p.keep_q, nq));
  FO_RETURN_IF_ERROR(check_range("keep_kv", p.keep_kv, nkv));
  FO_RETURN_IF_ERROR(check_optional("gate_q", p.gate_q, DType::kU8, {batch, heads, nq}));
  return check_optional("gate_kv", p.gate_kv, DType::kU8, {batch, heads, nkv});
}

namespace {

// Z [B, H, nQ, nKV] of these symbols.
Status check_block_scores_of(const SymbolsView& symbols, const TensorView& scores) {
  FO_RETURN_IF_ERROR(check_rank("scores", scores, 4));
  FO_RETURN_IF_ERROR(check_symbols(symbols, scores.size(0), scores.size(1), -1, -1));
  const SymbolGeometry& g = symbols.geometry;
  return check_tensor("scores", scores, DType::kF32,
                      {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks()});
}

}  // namespace

Status check_antidiagonal_scores(const AntidiagonalScoresParams& p) {
  FO_RETURN_IF_ERROR(check_rank("q", p.q, 4));
  FO_RETURN_IF_ERROR(check_f32("q", p.q));
  FO_RETURN_IF_ERROR(check_like("k", p.k, p.q));
  for (const int block : {p.block_q, p.block_kv}) {
    if (p.stride < 1 || block < 1 || block % p.stride != 0) {
      return wanted("stride", std::to_string(p.stride),
                    "a divisor of the block size " + std::to_string(block));
    }
  }
  const int64_t batch = p.q.size(0), tokens = p.q.size(1), heads = p.q.size(2);
  if (tokens < 1) return wanted("number of tokens", "0", "at least 1");
  const int64_t nq = ceil_div(tokens, p.block_q), nkv = ceil_div(tokens, p.block_kv);
  FO_RETURN_IF_ERROR(check_tensor("out", p.out, DType::kF32, {batch, heads, nq, nkv}));
  FO_RETURN_IF_ERROR(check_tensor("workspace", p.workspace, DType::kF32,
                                  {batch, heads, ceil_div(tokens, p.stride), std::max(nq, nkv)}));
  if (p.workspace.is_contiguous()) return ok_status();
  return wanted("workspace", p.workspace.to_string(), "a contiguous tensor");
}

Status check_column_mass(const ColumnMassParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  FO_RETURN_IF_ERROR(check_f32("scores", p.scores));
  for (const int block : {p.block_q, p.block_kv}) {
    if (block < 1) return wanted("block", std::to_string(block), "at least 1");
  }
  return check_tensor("out", p.out, DType::kF32,
                      {p.scores.size(0), p.scores.size(1), p.scores.size(2)});
}

Status check_block_change(const BlockChangeParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  FO_RETURN_IF_ERROR(check_like("y", p.y, p.x));
  if (p.block < 1) return wanted("block", std::to_string(p.block), "at least 1");
  return check_tensor("out", p.out, DType::kF32,
                      {p.x.size(0), p.x.size(2), ceil_div(p.x.size(1), p.block)});
}

Status check_select_rows(const SelectRowsParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 3));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads, -1, -1));
  const int64_t nq = p.symbols.geometry.num_q_blocks();
  FO_RETURN_IF_ERROR(check_tensor("scores", p.scores, DType::kF32, {batch, heads, nq}));
  FO_RETURN_IF_ERROR(check_range("keep", p.keep, nq));
  return check_optional("gate_q", p.gate_q, DType::kU8, {batch, heads, nq});
}

Status check_select_kv_share(const SelectKvShareParams& p) {
  FO_RETURN_IF_ERROR(check_block_scores_of(p.symbols, p.scores));
  if (!(p.share >= 0.f && p.share <= 1.f)) {
    return wanted("share", std::to_string(p.share), "a number from 0 to 1");
  }
  FO_RETURN_IF_ERROR(check_range("keep_q", p.keep_q, p.symbols.geometry.num_q_blocks()));
  return check_range("keep_kv", p.keep_kv, p.symbols.geometry.num_kv_blocks());
}

Status check_select_pattern(const SelectPatternParams& p) {
  FO_RETURN_IF_ERROR(check_block_scores_of(p.symbols, p.scores));
  const SymbolGeometry& g = p.symbols.geometry;
  FO_RETURN_IF_ERROR(check_range("keep_q", p.keep_q, g.num_q_blocks()));
  if (!p.patterns || p.count < 1) {
    return wanted("patterns", std::to_string(p.patterns ? p.count : 0), "at least 1");
  }
  return check_optional("choice", p.choice, DType::kI32, {g.batch, g.heads});
}

Status check_keep_columns(const KeepColumnsParams& p) {
  FO_RETURN_IF_ERROR(check_symbols_given(p.symbols));
  return check_range("keep", p.keep, p.symbols.geometry.num_kv_blocks());
}

Status check_measure_change(const MeasureChangeParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 3));
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  FO_RETURN_IF_ERROR(check_like("y", p.y, p.x));
  if (!p.out) return wanted("out", "missing", "a place for the sums");
  return check_tensor("workspace", p.workspace, DType::kF64,
                      {p.x.size(0), ceil_div(p.x.size(1), MeasureChangeParams::kRows), 2});
}

Status check_taylor_update(const TaylorUpdateParams& p) {
  FO_RETURN_IF_ERROR(check_f32("feature", p.feature));
  FO_RETURN_IF_ERROR(check_count("count", p.count, TaylorUpdateParams::kMaxFactors));
  for (int i = 0; i < p.count; ++i) {
    const std::string name = "factors[" + std::to_string(i) + "]";
    FO_RETURN_IF_ERROR(check_like(name.c_str(), p.factors[i], p.feature));
  }
  return ok_status();
}

Status check_taylor_forecast(const TaylorForecastParams& p) {
  FO_RETURN_IF_ERROR(check_count("count", p.count, TaylorUpdateParams::kMaxFactors));
  FO_RETURN_IF_ERROR(check_rank("factors[0]", p.factors[0], 3));
  const TensorView& f = p.factors[0];
  for (int i = 0; i < p.count; ++i) {
    const std::string name = "factors[" + std::to_string(i) + "]";
    FO_RETURN_IF_ERROR(
        check_tensor(name.c_str(), p.factors[i], DType::kF32, {f.size(0), f.size(1), f.size(2)}));
  }
  return check_result(p.out, p.residual, p.gate, f.size(0), f.size(1), f.size(2));
}

Status check_activation(const ActivationParams& p) {
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  return check_like("out", p.out, p.x);
}

Status check_combine(const CombineParams& p) {
  FO_RETURN_IF_ERROR(check_f32("x", p.x));
  if (p.y) FO_RETURN_IF_ERROR(check_like("y", p.y, p.x));
  if (p.z) FO_RETURN_IF_ERROR(check_like("z", p.z, p.x));
  return check_like("out", p.out, p.x);
}

Status check_copy(const CopyParams& p) {
  if (!p.src) return wanted("src", "missing", "a tensor");
  if (!p.dst) return wanted("dst", "missing", p.src.to_string());
  bool same = p.dst.dtype == p.src.dtype && p.dst.rank == p.src.rank;
  for (int i = 0; same && i < p.src.rank; ++i) same = p.dst.size(i) == p.src.size(i);
  return same ? ok_status() : wanted("dst", p.dst.to_string(), p.src.to_string());
}

Status check_count_symbols(const CountSymbolsParams& p) {
  if (!p.out) return wanted("out", "missing", "a place for the counts");
  return check_symbols_given(p.symbols);
}

Status check_plan(const PlanParams& p) {
  FO_RETURN_IF_ERROR(check_symbols_given(p.symbols));
  const size_t bytes = plan_bytes(p.symbols.geometry);
  if (p.plan && p.plan.bytes >= bytes && reinterpret_cast<uintptr_t>(p.plan.data) % 8 == 0) {
    return ok_status();
  }
  const bool misaligned = reinterpret_cast<uintptr_t>(p.plan.data) % 8 != 0;
  return wanted("plan",
                !p.plan ? "missing"
                        : std::to_string(p.plan.bytes) + " bytes" +
                              (misaligned ? " at an address that is no multiple of 8" : ""),
                std::to_string(bytes) + " bytes at a multiple of 8");
}

Status check_workspace(const char* operation, const Exec& exec, size_t bytes) {
  if (exec.workspace && exec.workspace_bytes >= bytes) return ok_status();
  return wanted("workspace of " + std::string(operation),
                exec.workspace ? std::to_string(exec.workspace_bytes) + " bytes" : "missing",
                std::to_string(bytes) + " bytes");
}

}  // namespace flashomni::cpu

// SPDX-License-Identifier: Apache-2.0
#include "cuda/checks.h"

#include <algorithm>
#include <array>
#include <span>

#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/symbols/pooling.h"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

using Shape = std::initializer_list<int64_t>;

// Most CTAs of a launch in one dimension.
constexpr int64_t kMaxGrid = 0x7fffffff;
constexpr int64_t kMaxGridYZ = 0xffff;
// In the other two.
constexpr int64_t kMaxSideGrid = 65535;
constexpr size_t kPlanAlignment = 16;

std::string shape_text(std::span<const int64_t> shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i > 0 ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

std::span<const int64_t> shape_of(const TensorView& v) {
  return {v.shape, static_cast<size_t>(v.rank)};
}

Status check_shape(const char* name, const TensorView& v, std::span<const int64_t> shape) {
  if (!v || !std::ranges::equal(shape_of(v), shape)) {
    return wanted(name, v ? v.to_string() : "missing", "a tensor " + shape_text(shape));
  }
  const int last = v.rank - 1;
  if (last < 0 || v.size(last) <= 1 || v.stride[last] == 1) return ok_status();
  return wanted("innermost stride of " + std::string(name), std::to_string(v.stride[last]), "1");
}

Status check_rank(const char* name, const TensorView& v, int rank) {
  if (v && v.rank == rank) return ok_status();
  return wanted(name, v ? v.to_string() : "missing", "a tensor of rank " + std::to_string(rank));
}

Status check_float_dtype(const char* name, DType dtype) {
  if (is_float(dtype)) return ok_status();
  return unsupported("dtype of " + std::string(name) + " is " + dtype_name(dtype) +
                     ", wanted f32, bf16 or f16");
}

// f32, bf16 or f16 of this shape with contiguous rows.
Status check_float(const char* name, const TensorView& v, std::span<const int64_t> shape) {
  FO_RETURN_IF_ERROR(check_shape(name, v, shape));
  return check_float_dtype(name, v.dtype);
}
Status check_float(const char* name, const TensorView& v, Shape shape) {
  return check_float(name, v, std::span(shape.begin(), shape.size()));
}
Status check_any_float(const char* name, const TensorView& v) {
  return v ? check_float(name, v, shape_of(v)) : wanted(name, "missing", "a tensor");
}

Status check_typed(const char* name, const TensorView& v, DType dtype, Shape shape) {
  FO_RETURN_IF_ERROR(check_shape(name, v, std::span(shape.begin(), shape.size())));
  if (v.dtype == dtype) return ok_status();
  return wanted(name, v.to_string(), dtype_name(dtype));
}
Status check_optional(const char* name, const TensorView& v, DType dtype, Shape shape) {
  return v ? check_typed(name, v, dtype, shape) : ok_status();
}
Status check_optional_float(const char* name, const TensorView& v, Shape shape) {
  return v ? check_float(name, v, shape) : ok_status();
}

Status check_count(const char* name, int seen, int most) {
  if (seen >= 1 && seen <= most) return ok_status();
  return wanted(name, std::to_string(seen), "1.." + std::to_string(most));
}

Status check_range(const char* name, const BlockRange& range, int64_t blocks) {
  if (range.size() == 0 || (range.begin >= 0 && range.end <= blocks)) return ok_status();
  return wanted(name, "[" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ")",
                "a range of the " + std::to_string(blocks) + " blocks");
}

Status check_at_most(const char* name, int64_t seen, int64_t most) {
  if (seen <= most) return ok_status();
  return unsupported(std::string(name) + " is " + std::to_string(seen) + ", wanted at most " +
                     std::to_string(most) + " on a GPU");
}

Status check_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads) {
  if (!symbols) return wanted("symbols", "missing", "both S_c and S_s");
  FO_RETURN_IF_ERROR(symbols.geometry.validate());
  const SymbolGeometry& g = symbols.geometry;
  if (g.batch == batch && g.heads == heads) return ok_status();
  return wanted("batch and heads of the symbols",
                shape_text(std::array{int64_t{g.batch}, int64_t{g.heads}}),
                shape_text(std::array{batch, heads}));
}

// Outputs of the linear-like operations.
Status check_result(const TensorView& out, const TensorView& residual, const TensorView& gate,
                    int64_t batch, Shape shape) {
  if (!out && !residual) return wanted("result", "neither out nor residual", "at least one");
  FO_RETURN_IF_ERROR(check_optional_float("out", out, shape));
  FO_RETURN_IF_ERROR(check_optional_float("residual", residual, shape));
  return check_optional_float("gate", gate, {batch, *(shape.end() - 1)});
}

}  // namespace

Status wanted(const std::string& what, const std::string& seen, const std::string& want) {
  return invalid_argument(what + " is " + seen + ", wanted " + want);
}

Status check_weight_desc(const WeightDesc& desc) {
  FO_RETURN_IF_ERROR(check_rank("weight", desc.weight, 2));
  const TensorView& w = desc.weight;
  FO_RETURN_IF_ERROR(check_any_float("weight", w));
  if (w.size(0) < 1 || w.size(1) < 1) return wanted("weight", w.to_string(), "a non-empty matrix");
  FO_RETURN_IF_ERROR(check_optional_float("bias", desc.bias, {w.size(0)}));
  if (desc.out_head_dim < 0 || (desc.out_head_dim > 0 && w.size(0) % desc.out_head_dim != 0)) {
    return wanted("out_head_dim", std::to_string(desc.out_head_dim),
                  "0 or a divisor of " + std::to_string(w.size(0)));
  }
  return ok_status();
}

Status check_linear(const LinearParams& p, int64_t in_features, int64_t out_features) {
  const TensorView& x = p.x;
  if (!x || (x.rank != 2 && x.rank != 3)) {
    return wanted("x", x ? x.to_string() : "missing", "a tensor of rank 2 or 3");
  }
  FO_RETURN_IF_ERROR(check_any_float("x", x));
  if (x.size(x.rank - 1) != in_features) {
    return wanted("in features of the weight", std::to_string(in_features),
                  std::to_string(x.size(x.rank - 1)));
  }
  const int64_t batch = x.rank == 3 ? x.size(0) : 1;
  const int64_t rows = x.size(x.rank - 2);
  FO_RETURN_IF_ERROR(check_at_most("batch", batch, kMaxSideGrid));
  // Row tiles of the plain kernel.
  FO_RETURN_IF_ERROR(check_at_most("number of rows", rows, kMaxSideGrid * 64));
  if (x.rank == 2) return check_result(p.out, p.residual, p.gate, batch, {rows, out_features});
  return check_result(p.out, p.residual, p.gate, batch, {batch, rows, out_features});
}

Status check_norm_modulate(const NormModulateParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 3));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  FO_RETURN_IF_ERROR(check_at_most("width of x", p.x.size(2), kMaxNormWidth));
  FO_RETURN_IF_ERROR(check_at_most("number of rows", p.x.size(0) * p.x.size(1), kMaxGrid));
  FO_RETURN_IF_ERROR(check_float("scale", p.scale, {p.x.size(0), p.x.size(2)}));
  FO_RETURN_IF_ERROR(check_float("shift", p.shift, {p.x.size(0), p.x.size(2)}));
  return check_float("out", p.out, shape_of(p.x));
}

Status check_rms_norm(const RmsNormParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  const int64_t tokens = p.x.size(1), heads = p.x.size(2), d = p.x.size(3);
  if (d % 2 != 0) return wanted("head_dim", std::to_string(d), "an even number");
  FO_RETURN_IF_ERROR(check_at_most("number of rows", p.x.size(0) * tokens, kMaxGrid));
  FO_RETURN_IF_ERROR(check_typed("weight", p.weight, DType::kF32, {heads * d}));
  FO_RETURN_IF_ERROR(check_optional("rope cos", p.rope.cos, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(check_optional("rope sin", p.rope.sin, DType::kF32, {tokens, d / 2}));
  if (bool(p.rope.cos) == bool(p.rope.sin)) return ok_status();
  return wanted("rope", p.rope.cos ? "cos alone" : "sin alone", "both or neither");
}

Status check_token_mean(const TokenMeanParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  if (p.x.size(1) < 1) return wanted("number of tokens", "0", "at least 1");
  return check_typed("out", p.out, DType::kF32, {p.x.size(0), p.x.size(2), p.x.size(3)});
}

Status check_pool(const PoolParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  if (p.block < 1) return wanted("block", std::to_string(p.block), "at least 1");
  if (p.starts) FO_RETURN_IF_ERROR(check_rank("out", p.out, 4));
  const int64_t batch = p.x.size(0), heads = p.x.size(2), d = p.x.size(3);
  const int64_t blocks = p.starts ? p.out.size(2) : (p.x.size(1) + p.block - 1) / p.block;
  FO_RETURN_IF_ERROR(check_at_most("head_dim", d, kMaxPoolHeadDim));
  FO_RETURN_IF_ERROR(check_at_most("number of blocks", batch * heads * blocks, kMaxGrid));
  FO_RETURN_IF_ERROR(check_optional("mean", p.mean, DType::kF32, {batch, heads, d}));
  FO_RETURN_IF_ERROR(check_optional("gate", p.gate, DType::kU8, {batch, heads, blocks}));
  return check_typed("out", p.out, DType::kF32, {batch, heads, blocks, d});
}

Status check_block_scores(const BlockScoresParams& p) {
  FO_RETURN_IF_ERROR(check_rank("q", p.q, 4));
  FO_RETURN_IF_ERROR(check_rank("k", p.k, 4));
  const int64_t batch = p.q.size(0), heads = p.q.size(1), d = p.q.size(3);
  FO_RETURN_IF_ERROR(check_any_float("q", p.q));
  FO_RETURN_IF_ERROR(check_float("k", p.k, {batch, heads, p.k.size(2), d}));
  FO_RETURN_IF_ERROR(check_at_most("batch * heads", batch * heads, kMaxSideGrid));
  return check_typed("out", p.out, DType::kF32, {batch, heads, p.q.size(2), p.k.size(2)});
}

Status check_select_cached_rows(const SelectCachedRowsParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads));
  const int64_t nq = p.symbols.geometry.num_q_blocks(), nkv = p.symbols.geometry.num_kv_blocks();
  FO_RETURN_IF_ERROR(check_typed("scores", p.scores, DType::kF32, {batch, heads, nq, nkv}));
  FO_RETURN_IF_ERROR(check_at_most("number of query blocks", nq, kMaxSelectRows));
  // Which kv blocks hold the tokens of a query block is known of blocks of one size.
  if (p.theta >= 0 && p.symbols.geometry.ragged()) {
    return unsupported(
        "choosing cached rows with symbols of ragged blocks, wanted blocks of one "
        "size");
  }
  FO_RETURN_IF_ERROR(check_range("text_q", p.text_q, nq));
  FO_RETURN_IF_ERROR(check_range("text_kv", p.text_kv, nkv));
  return check_optional("gate_q", p.gate_q, DType::kU8, {batch, heads, nq});
}

Status check_select_kv_blocks(const SelectKvBlocksParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads));
  const int64_t nq = p.symbols.geometry.num_q_blocks(), nkv = p.symbols.geometry.num_kv_blocks();
  FO_RETURN_IF_ERROR(check_typed("scores", p.scores, DType::kF32, {batch, heads, nq, nkv}));
  FO_RETURN_IF_ERROR(check_at_most("number of kv blocks", nkv, kMaxSelectKv));
  FO_RETURN_IF_ERROR(check_range("keep_q", p.keep_q, nq));
  FO_RETURN_IF_ERROR(check_range("keep_kv", p.keep_kv, nkv));
  FO_RETURN_IF_ERROR(check_optional("gate_q", p.gate_q, DType::kU8, {batch, heads, nq}));
  return check_optional("gate_kv", p.gate_kv, DType::kU8, {batch, heads, nkv});
}

Status check_taylor_update(const TaylorUpdateParams& p) {
  FO_RETURN_IF_ERROR(check_any_float("feature", p.feature));
  FO_RETURN_IF_ERROR(check_count("count", p.count, TaylorUpdateParams::kMaxFactors));
  for (int i = 0; i < p.count; ++i) {
    const std::string name = "factors[" + std::to_string(i) + "]";
    FO_RETURN_IF_ERROR(check_float(name.c_str(), p.factors[i], shape_of(p.feature)));
  }
  return ok_status();
}

Status check_taylor_slope(const TaylorSlopeParams& p) {
  FO_RETURN_IF_ERROR(check_rank("slope", p.slope, 4));
  FO_RETURN_IF_ERROR(check_any_float("slope", p.slope));
  const TensorView& like = p.slope;
  const std::pair<const char*, const TensorView*> all[] = {
      {"fresh", &p.fresh}, {"previous", &p.previous}, {"slope", &like}};
  for (const auto& [name, v] : all) {
    FO_RETURN_IF_ERROR(check_shape(name, *v, shape_of(like)));
    if (v->dtype == like.dtype && v->is_contiguous()) continue;
    return wanted(name, v->to_string(), std::string("contiguous ") + dtype_name(like.dtype));
  }
  if (!p.symbols.c) return wanted("symbols", "missing", "S_c");
  const SymbolGeometry& g = p.symbols.geometry;
  FO_RETURN_IF_ERROR(g.validate());
  if (g.ragged()) return unsupported("taylor_slope takes no ragged blocks");
  FO_RETURN_IF_ERROR(check_at_most("batch", g.batch, kMaxGridYZ));
  FO_RETURN_IF_ERROR(check_at_most("number of query blocks", g.num_q_blocks(), kMaxGridYZ));
  if (g.batch == like.size(0) && g.q_tokens == like.size(1) && g.heads == like.size(2)) {
    return ok_status();
  }
  return wanted("symbols",
                std::to_string(g.batch) + " x " + std::to_string(g.q_tokens) + " x " +
                    std::to_string(g.heads),
                "batch x tokens x heads of " + like.to_string());
}

Status check_taylor_forecast(const TaylorForecastParams& p) {
  FO_RETURN_IF_ERROR(check_count("count", p.count, TaylorUpdateParams::kMaxFactors));
  FO_RETURN_IF_ERROR(check_rank("factors[0]", p.factors[0], 3));
  const TensorView& f = p.factors[0];
  for (int i = 0; i < p.count; ++i) {
    const std::string name = "factors[" + std::to_string(i) + "]";
    FO_RETURN_IF_ERROR(check_float(name.c_str(), p.factors[i], shape_of(f)));
  }
  return check_result(p.out, p.residual, p.gate, f.size(0), {f.size(0), f.size(1), f.size(2)});
}

Status check_activation(const ActivationParams& p) {
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  return check_float("out", p.out, shape_of(p.x));
}

Status check_combine(const CombineParams& p) {
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  if (p.y) FO_RETURN_IF_ERROR(check_float("y", p.y, shape_of(p.x)));
  if (p.z) FO_RETURN_IF_ERROR(check_float("z", p.z, shape_of(p.x)));
  return check_float("out", p.out, shape_of(p.x));
}

Status check_copy(const CopyParams& p) {
  if (!p.src) return wanted("src", "missing", "a tensor");
  if (!p.dst) return wanted("dst", "missing", p.src.to_string());
  const bool same =
      p.dst.dtype == p.src.dtype && std::ranges::equal(shape_of(p.dst), shape_of(p.src));
  return same ? ok_status() : wanted("dst", p.dst.to_string(), p.src.to_string());
}

namespace {

// Z [B, H, nQ, nKV] of these symbols.
Status check_block_scores_of(const SymbolsView& symbols, const TensorView& scores) {
  FO_RETURN_IF_ERROR(check_rank("scores", scores, 4));
  const int64_t batch = scores.size(0), heads = scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(symbols, batch, heads));
  const int64_t nq = symbols.geometry.num_q_blocks(), nkv = symbols.geometry.num_kv_blocks();
  FO_RETURN_IF_ERROR(check_at_most("number of block pairs of a head", nq * nkv, kMaxGrid));
  return check_typed("scores", scores, DType::kF32, {batch, heads, nq, nkv});
}

Status check_block(const char* name, int block) {
  return block >= 1 ? ok_status() : wanted(name, std::to_string(block), "at least 1");
}

// Both of them, with rows that start at multiples of 16 bytes.
Status check_group_operand(const char* name, const TensorView& v) {
  if (v.dtype != DType::kBF16 && v.dtype != DType::kF16) {
    return unsupported("dtype of " + std::string(name) + " is " + dtype_name(v.dtype) +
                       ", antidiagonal scores on the GPU want bf16 or f16");
  }
  bool aligned = reinterpret_cast<uintptr_t>(v.data) % 16 == 0;
  for (int i = 0; i < 3; ++i) aligned = aligned && (v.size(i) == 1 || v.stride[i] % 8 == 0);
  if (aligned) return ok_status();
  return unsupported(std::string(name) + " is " + v.to_string() +
                     ", wanted an address and row strides that are multiples of 16 bytes");
}

}  // namespace

Status check_antidiagonal_scores(const AntidiagonalScoresParams& p) {
  FO_RETURN_IF_ERROR(check_rank("q", p.q, 4));
  FO_RETURN_IF_ERROR(check_any_float("q", p.q));
  FO_RETURN_IF_ERROR(check_float("k", p.k, shape_of(p.q)));
  FO_RETURN_IF_ERROR(check_group_operand("q", p.q));
  FO_RETURN_IF_ERROR(check_group_operand("k", p.k));
  if (p.k.dtype != p.q.dtype) return wanted("k", p.k.to_string(), dtype_name(p.q.dtype));
  for (const int block : {p.block_q, p.block_kv}) {
    if (block != 64 && block != 128) {
      return unsupported("block of " + std::to_string(block) + " tokens, the GPU takes 64 and 128");
    }
    if (p.stride < 1 || block % p.stride != 0) {
      return wanted("stride", std::to_string(p.stride),
                    "a divisor of the block size " + std::to_string(block));
    }
  }
  const int64_t batch = p.q.size(0), tokens = p.q.size(1), heads = p.q.size(2), d = p.q.size(3);
  if (d < 1 || d % 32 != 0) {
    return unsupported("head_dim is " + std::to_string(d) +
                       ", antidiagonal scores on the GPU want a multiple of 32");
  }
  if (tokens < 1) return wanted("number of tokens", "0", "at least 1");
  const auto count = [&](int64_t size) { return (tokens + size - 1) / size; };
  const int64_t nq = count(p.block_q), nkv = count(p.block_kv);
  FO_RETURN_IF_ERROR(check_at_most("batch * heads", batch * heads, kMaxSideGrid));
  FO_RETURN_IF_ERROR(check_at_most("number of query blocks", batch * heads * nq, kMaxGrid));
  FO_RETURN_IF_ERROR(check_at_most("number of tokens", tokens, kMaxSideGrid * 128));
  FO_RETURN_IF_ERROR(check_typed("out", p.out, DType::kF32, {batch, heads, nq, nkv}));
  FO_RETURN_IF_ERROR(check_typed("workspace", p.workspace, DType::kF32,
                                 {batch, heads, count(p.stride), std::max(nq, nkv)}));
  if (p.workspace.is_contiguous()) return ok_status();
  return wanted("workspace", p.workspace.to_string(), "a contiguous tensor");
}

Status check_column_mass(const ColumnMassParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 4));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1), nq = p.scores.size(2);
  FO_RETURN_IF_ERROR(
      check_typed("scores", p.scores, DType::kF32, {batch, heads, nq, p.scores.size(3)}));
  FO_RETURN_IF_ERROR(check_block("block_q", p.block_q));
  FO_RETURN_IF_ERROR(check_block("block_kv", p.block_kv));
  FO_RETURN_IF_ERROR(check_at_most("number of query blocks", nq, kMaxSelectRows));
  return check_typed("out", p.out, DType::kF32, {batch, heads, nq});
}

Status check_block_change(const BlockChangeParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 4));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  FO_RETURN_IF_ERROR(check_float("y", p.y, shape_of(p.x)));
  FO_RETURN_IF_ERROR(check_block("block", p.block));
  const int64_t batch = p.x.size(0), heads = p.x.size(2);
  const int64_t blocks = (p.x.size(1) + p.block - 1) / p.block;
  FO_RETURN_IF_ERROR(check_at_most("number of blocks", batch * heads * blocks, kMaxGrid));
  FO_RETURN_IF_ERROR(check_at_most("elements of a block", p.block * p.x.size(3), kMaxGrid));
  return check_typed("out", p.out, DType::kF32, {batch, heads, blocks});
}

Status check_measure_change(const MeasureChangeParams& p) {
  FO_RETURN_IF_ERROR(check_rank("x", p.x, 3));
  FO_RETURN_IF_ERROR(check_any_float("x", p.x));
  FO_RETURN_IF_ERROR(check_float("y", p.y, shape_of(p.x)));
  if (!p.out) return wanted("out", "missing", "a place for the sums");
  constexpr int kRows = MeasureChangeParams::kRows;
  const int64_t pieces = (p.x.size(1) + kRows - 1) / kRows;
  FO_RETURN_IF_ERROR(check_at_most("number of rows", p.x.size(0) * pieces, kMaxGrid));
  FO_RETURN_IF_ERROR(check_at_most("width of x", p.x.size(2), kMaxGrid / kRows));
  return check_typed("workspace", p.workspace, DType::kF64, {p.x.size(0), pieces, 2});
}

Status check_select_rows(const SelectRowsParams& p) {
  FO_RETURN_IF_ERROR(check_rank("scores", p.scores, 3));
  const int64_t batch = p.scores.size(0), heads = p.scores.size(1);
  FO_RETURN_IF_ERROR(check_symbols(p.symbols, batch, heads));
  const int64_t nq = p.symbols.geometry.num_q_blocks();
  FO_RETURN_IF_ERROR(check_typed("scores", p.scores, DType::kF32, {batch, heads, nq}));
  FO_RETURN_IF_ERROR(check_at_most("number of query blocks", nq, kMaxSelectRows));
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
  if (!p.symbols) return wanted("symbols", "missing", "both S_c and S_s");
  FO_RETURN_IF_ERROR(p.symbols.geometry.validate());
  return check_range("keep", p.keep, p.symbols.geometry.num_kv_blocks());
}

Status check_count_symbols(const CountSymbolsParams& p) {
  if (!p.out) return wanted("out", "missing", "a place for the counts");
  if (!p.symbols) return wanted("symbols", "missing", "both S_c and S_s");
  return p.symbols.geometry.validate();
}

Status check_plan(const PlanParams& p, size_t bytes) {
  if (!p.symbols) return wanted("symbols", "missing", "both S_c and S_s");
  const bool misaligned = reinterpret_cast<uintptr_t>(p.plan.data) % kPlanAlignment != 0;
  if (p.plan && p.plan.bytes >= bytes && !misaligned) return ok_status();
  return wanted("plan",
                !p.plan ? "missing"
                        : std::to_string(p.plan.bytes) + " bytes" +
                              (misaligned ? " at an address that is no multiple of 16" : ""),
                std::to_string(bytes) + " bytes at a multiple of 16");
}

Status check_workspace(const char* operation, const Exec& exec, size_t bytes) {
  if (bytes == 0 || (exec.workspace && exec.workspace_bytes >= bytes)) return ok_status();
  return wanted("workspace of " + std::string(operation),
                exec.workspace ? std::to_string(exec.workspace_bytes) + " bytes" : "missing",
                std::to_string(bytes) + " bytes");
}

}  // namespace flashomni::cuda

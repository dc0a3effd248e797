// SPDX-License-Identifier: Apache-2.0
//
// Arguments of every operation a backend offers: plain structs of non-owning views. Shape letters:
//   B batch, N tokens of the joint sequence, M rows of one segment of it (its text or its image
//   part, or all of it), H heads, d head_dim, D model width, K input features, nQ/nKV block counts.
// A *segment* is the half-open token range [token_offset, token_offset + M) of the joint sequence;
// it need not start on a block boundary. Activations are f32 unless an operation says otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "flashomni/symbols.h"
#include "flashomni/types.h"

namespace flashomni {

// A backend's own copy of a Linear layer's weight, laid out for its kernels. Immutable, shareable
// between threads; only the backend that packed it can use it.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
  virtual size_t bytes() const = 0;
};

// How to pack: y = x W^T + b with W [out, in] row-major (the PyTorch layout) in f32, bf16 or f16.
struct WeightDesc {
  TensorView weight;  // [out, in]
  TensorView bias;    // [out], optional, same dtypes
  // Columns of y that belong together for GEMM-Q (0: no head structure). Must divide `out`.
  int out_head_dim = 0;
};

enum class Activation : uint8_t { kNone, kGeluTanh, kSilu };

// y = act(x W^T + b);  out = y (when given);  residual += gate * y (when given).
struct LinearParams {
  TensorView x;  // [B, M, K] or [M, K]
  const PackedWeight* weight = nullptr;
  Activation activation = Activation::kNone;
  TensorView out;       // like x with K replaced by the out features; optional if residual is given
  TensorView residual;  // same shape, updated in place; optional
  TensorView gate;      // [B, out features]; optional, 1 when absent
};

// out = LayerNorm(x; eps, no affine) * (1 + scale) + shift.
struct NormModulateParams {
  TensorView x;      // [B, M, D]
  TensorView scale;  // [B, D]
  TensorView shift;  // [B, D]
  TensorView out;    // [B, M, D]
  float eps = 1e-6f;
};

// cos/sin per token and adjacent channel pair; row n belongs to token n of the joint sequence.
struct RopeTable {
  TensorView cos;  // [N, d/2]
  TensorView sin;  // [N, d/2]
  explicit operator bool() const { return cos && sin; }
};

// RMSNorm over all heads of a token together, then RoPE, in place (queries and keys of Wan; a norm
// of each head by itself is part of GEMM-Q):
//   x[b,n] = rope(x[b,n] / sqrt(mean over H*d of x[b,n]^2 + eps) * weight).
struct RmsNormParams {
  TensorView x;       // [B, N, H, d]
  TensorView weight;  // [H*d] f32
  float eps = 1e-6f;
  RopeTable rope;  // [N, d/2] each; optional: no rotation when absent
};

// Work lists of one layer's symbols, in the backend's memory; see Backend::plan.
struct PlanView {
  void* data = nullptr;
  size_t bytes = 0;
  explicit operator bool() const { return data != nullptr; }
};

struct PlanParams {
  SymbolsView symbols;
  PlanView plan;  // out; bytes = Backend::plan_bytes(geometry)
};

// GEMM-Q: a head-structured projection with fused bias, per-head RMSNorm and RoPE, for the tiles
// (query block, head) whose S_c is 1; other tiles of `out` are not touched. Without symbols every
// tile is computed, by the same arithmetic (this is also the K and V projection).
struct GemmQParams {
  TensorView x;                          // [B, M, K]
  const PackedWeight* weight = nullptr;  // out features H*d, packed with out_head_dim = d
  TensorView rms_weight;                 // [d], optional: no RMSNorm when absent
  float rms_eps = 1e-6f;
  RopeTable rope;        // optional: no rotation when absent
  int token_offset = 0;  // of row 0 of x in the joint sequence
  TensorView out;        // [B, N, H, d]; rows token_offset .. token_offset + M are written
  SymbolsView symbols;   // optional
  PlanView plan;         // of those symbols; required with symbols on a GPU
};

// The Q, K and V projections of one x as one operation: the bits of three GEMM-Q calls. On a GPU it
// is one launch, in which the dense tiles of K and V fill the gaps that the sparse ones of Q leave.
struct GemmQkvParams {
  GemmQParams q, k, v;  // x, token_offset and d alike; k and v without symbols
};

// Products of one query row with one group of 32 keys and values, over all heads.
struct SoftmaxSkipCounts {
  int64_t products = 0;  // that the symbols asked for
  int64_t left_out = 0;  // of them, below the threshold
  double share() const { return products ? double(left_out) / double(products) : 0.0; }
};

// softmax(q k^T * scale) v under symbols. Tiles with S_c = 0 are not touched in `out` (nor `lse`),
// skipped kv blocks are never read. Without symbols: dense, same arithmetic. Symbols with ragged
// blocks are for this operation (without softmax_skip), its plan, pooling and the choice of S_s;
// GEMM-Q and GEMM-O refuse them.
struct AttentionParams {
  TensorView q;         // [B, N, H, d]    f32, bf16 or f16, all four alike
  TensorView k;         // [B, Nkv, H, d]
  TensorView v;         // [B, Nkv, H, d]
  TensorView out;       // [B, N, H, d]
  float scale = 0.f;    // 0 means 1/sqrt(d)
  SymbolsView symbols;  // optional
  PlanView plan;        // of those symbols; required with symbols
  TensorView lse;       // [B, H, N] f32, natural log of the row's sum of exponentials; optional
  // Second stage of SpargeAttn (arXiv 2502.18137, section 3.4): going through the keys in ascending
  // order, 32 aligned ones at a time, a row leaves a group out of its sums when the group's highest
  // score is at least so many powers of two below the highest before. 0: nothing is left out. Every
  // row decides for itself, so that the result does not depend on how rows are computed together.
  float softmax_skip = 0.f;
  SoftmaxSkipCounts* skip_counts = nullptr;  // added to while it runs; optional
};

// GEMM-O, full and dispatch form. y = sum over active heads of attn_h W_h  (+ mlp W_mlp)  + bias.
//   without symbols: all heads are active and bias is the weight's own b;
//   with symbols:    heads with S_c = 1 are active and bias = sum_m coefficients[m] * planes[m]
//                    (plane 0 already holds b).
// Then out = y (when given) and residual += gate * y (when given). The zero-sparsity result equals
// the dense one bit for bit, and a row whose heads are all cached (and no mlp) is the bias itself.
struct GemmOParams {
  static constexpr int kMaxPlanes = 4;
  TensorView attn;                       // [B, N, H, d]
  TensorView mlp;                        // [B, M, Kmlp], optional (FLUX single blocks)
  const PackedWeight* weight = nullptr;  // in features H*d + Kmlp, attention columns first
  int token_offset = 0;
  int rows = 0;         // M
  TensorView out;       // [B, M, D]
  TensorView residual;  // [B, M, D], in place
  TensorView gate;      // [B, D]
  SymbolsView symbols;
  PlanView plan;  // of those symbols; required with symbols on a GPU
  int num_planes = 0;
  TensorView planes[kMaxPlanes];  // each [B, N, D]; rows of this segment are read
  float coefficients[kMaxPlanes] = {1.f, 0.f, 0.f, 0.f};
};

// GEMM-O, update form: from the Taylor factors F_0..F_P-1 of the attention output (F_0 is the
// fresh output itself) and the *new* symbols, in one pass over the weight,
//   planes[m] = sum over heads with S_c = 0 of F_m,h W_h   (+ b for m = 0)
//   y         = planes[0] + sum over heads with S_c = 1 of F_0,h W_h  (+ mlp W_mlp)
// and then out / residual as in GemmOParams.
struct GemmOUpdateParams {
  GemmOParams base;  // attn is ignored (F_0 is used); planes[0..num_planes) are written
  TensorView factors[GemmOParams::kMaxPlanes];  // each [B, N, H, d]
};

// Mean over the valid tokens of each block, optionally of x - mean, and the self-similarity gate
// (strategies: sim_i = |mean unit vector|^2 > theta_sim).
struct PoolParams {
  TensorView x;     // [B, N, H, d]
  int block = 64;   // tokens of a block; of ragged blocks the most
  TensorView mean;  // [B, H, d] subtracted from every token first (key smoothing); optional
  TensorView out;   // [B, H, nBlocks, d]
  TensorView gate;  // u8 [B, H, nBlocks], 1 = similar; optional
  float theta_sim = 0.f;
  const int32_t* starts = nullptr;  // of ragged blocks [nBlocks + 1], see SymbolsView; optional
};

// Mean over all tokens.
struct TokenMeanParams {
  TensorView x;    // [B, N, H, d]
  TensorView out;  // [B, H, d]
};

// Z = scale * Qb Kb^T of pooled queries and keys.
struct BlockScoresParams {
  TensorView q;       // [B, H, nQ, d]
  TensorView k;       // [B, H, nKV, d]
  float scale = 0.f;  // 0 means 1/sqrt(d)
  TensorView out;     // [B, H, nQ, nKV]
};

// A half-open range of blocks.
struct BlockRange {
  int begin = 0;
  int end = 0;
  bool contains(int i) const { return i >= begin && i < end; }
  int size() const { return end > begin ? end - begin : 0; }
};

// How the two text scores of a vision block become one distribution (strategies 1.1 / 1.3).
enum class TextScoreMode : uint8_t {
  kMeanOfSoftmaxes,  // FLUX: (softmax_i(u) + softmax_i(w)) / 2
  kSoftmaxOfSum,     // HunyuanVideo: softmax_i(u + w)
};

// Chooses S_c: of the vision query blocks of every head, caches those that matter least to the
// text: DROP_CDF(s, theta) on s from u_i = sum over text rows r and the kv blocks of i of Z[r, .]
// and w_i = sum over text columns of Z[i, .]. Text rows (and gated-off rows) stay computed. A
// negative theta or an empty text range caches nothing. Writes the whole of symbols.c.
struct SelectCachedRowsParams {
  TensorView scores;   // Z [B, H, nQ, nKV]
  BlockRange text_q;   // query blocks that hold any text
  BlockRange text_kv;  // kv blocks that hold any text
  TextScoreMode mode = TextScoreMode::kMeanOfSoftmaxes;
  float theta = 0.f;  // share of the distribution that may be cached
  TensorView gate_q;  // u8 [B, H, nQ]: 0 = never cache this row; optional
  SymbolsView symbols;
};

enum class SelectRule : uint8_t { kDropCdf, kKeepCdfLt, kKeepCdfGe, kTopK };

// Chooses S_s row by row on softmax_j(Z): see strategies 0.5 for the rules. `parameter` is theta,
// tau, tau or k; a negative theta drops nothing. Protected blocks are set whatever the rule says.
// Then S_s is cleared where S_c is 0 and repaired where S_c is 1 (no empty row). Writes the whole
// of symbols.s.
struct SelectKvBlocksParams {
  TensorView scores;  // Z [B, H, nQ, nKV]
  SelectRule rule = SelectRule::kDropCdf;
  float parameter = 0.f;
  BlockRange keep_q;   // these rows keep every kv block
  BlockRange keep_kv;  // these columns are kept in every row
  TensorView gate_q;   // u8 [B, H, nQ]: 0 = keep the whole row; optional
  TensorView gate_kv;  // u8 [B, H, nKV]: 0 = excluded from the softmax, then kept; optional
  SymbolsView symbols;
};

// Counts, written to host-visible memory; final once the stream has passed this point.
struct CountSymbolsParams {
  SymbolsView symbols;
  SymbolCounts* out = nullptr;
};

// Taylor factors by backward differences (strategies 0.6): with fresh feature F and old factors P,
//   F_0 = F,  F_{i+1} = (F_i - P_i) * inv_distance   for i + 1 < count,
// in place: factors[i] is P_i on entry (for i < count - 1) and F_i on return.
struct TaylorUpdateParams {
  static constexpr int kMaxFactors = 4;
  TensorView feature;
  int count = 1;  // factors valid on return, 1..kMaxFactors
  TensorView factors[kMaxFactors];
  float inv_distance = 1.f;
};

// out = sum_m coefficients[m] * factors[m] (when out is given), residual += gate * that (when
// given).
struct TaylorForecastParams {
  int count = 1;
  TensorView factors[TaylorUpdateParams::kMaxFactors];  // each [B, M, D]
  float coefficients[TaylorUpdateParams::kMaxFactors] = {1.f, 0.f, 0.f, 0.f};
  TensorView out;       // [B, M, D]
  TensorView residual;  // [B, M, D], in place
  TensorView gate;      // [B, D]
};

// out = act(x), elementwise; may be in place.
struct ActivationParams {
  TensorView x;
  Activation activation = Activation::kSilu;
  TensorView out;
};

// out = a*x + b*y + c*z, elementwise (y, z optional): guidance and sampler steps. May be in place.
struct CombineParams {
  TensorView x, y, z;
  float a = 1.f, b = 0.f, c = 0.f;
  TensorView out;
};

struct CopyParams {
  TensorView src;  // same shape and dtype as dst, any strides
  TensorView dst;
};

}  // namespace flashomni

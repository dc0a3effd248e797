// SPDX-License-Identifier: Apache-2.0
//
// The leaf kernels of one instruction set: single-threaded loops over tiles that fit a cache, with
// plain pointers and no knowledge of tensors, symbols or threads. Drivers (linear.cc, gemm_q.cc,
// gemm_o.cc, attention.cc, ...) are compiled once and call through this table; a call covers
// thousands of arithmetic operations, so the indirection costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/prefetch.h"
#include "flashomni/ops.h"
#include "flashomni/types.h"

namespace flashomni::cpu {

// Products in bf16 take the inner dimension in stretches of this many.
inline constexpr int64_t kFeatureTile = 32;

// One stretch of a product's inner dimension: `a` points at row 0 of the left factor (rows `lda`
// apart), `b` at the first of `k` rows of one packed panel of the right factor.
struct GemmSpan {
  const float* a;
  const float* b;
  int64_t k;
};

// What happens to accumulated tiles before they leave the core. With
//   t = planes[0] * coefficients[0] + planes[1] * coefficients[1] + ...   (planes given)
//   t = bias                                                              (otherwise)
// y = act(c + t), or act(t) without c; then out = y and residual += gate * y, each when given.
struct EpilogueArgs {
  // Panels of the tile, each [rows][panel], `panel_stride` apart; null: no product.
  const float* c = nullptr;
  int64_t panel_stride = 0;
  int rows = 0;
  int cols = 0;                 // valid columns of all panels together
  const float* bias = nullptr;  // [cols], readable up to the end of the last panel
  int num_planes = 0;
  const float* planes[GemmOParams::kMaxPlanes] = {};
  int64_t plane_stride[GemmOParams::kMaxPlanes] = {};
  float coefficients[GemmOParams::kMaxPlanes] = {};
  Activation activation = Activation::kNone;
  float* out = nullptr;
  int64_t out_stride = 0;
  float* residual = nullptr;
  int64_t residual_stride = 0;
  const float* gate = nullptr;  // [cols]; 1 when absent
};

// The finish of a GEMM-Q tile: bias, RMSNorm over the head, rotation of adjacent channel pairs.
struct HeadEpilogueArgs {
  const float* c = nullptr;  // panels of the head, each [rows][panel], `panel_stride` apart
  int64_t panel_stride = 0;
  int rows = 0;
  int head_dim = 0;
  const float* bias = nullptr;        // [panels of the head * panel]
  const float* rms_weight = nullptr;  // [head_dim] or null: no norm
  float rms_eps = 0.f;
  const float* cos = nullptr;  // row 0 of the tile, [rows][head_dim/2], or null: no rotation
  const float* sin = nullptr;
  int64_t cos_stride = 0;
  int64_t sin_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// The running state of `panel` query rows (lanes) against keys seen so far. Everything is stored
// transposed, query rows innermost, so that softmax needs no reduction across lanes.
struct AttentionState {
  const float* q_t;  // [d][panel], scaled by scale * log2(e)
  float* out_t;      // [d][panel], sum of 2^(s - max) v; nothing yet unless begun
  float* max;        // [panel], reference maximum, in units of log2
  float* sum;        // [panel], sum of 2^(s - max)
  float* p;          // scratch [kBufferedTokens][panel]
  int head_dim;
  bool begun;  // values have been added
  // ---- of attend_skipping only, see AttentionParams::softmax_skip.
  float* top;  // [panel], highest score so far, in units of log2
  float softmax_skip;
  int rows;           // lanes that hold a query
  int64_t* left_out;  // counts products of a row with 32 keys
};
// Probabilities that wait for their product with the values, so that the outputs are loaded and
// stored rarely.
inline constexpr int kBufferedTokens = 128;

// Keys and values of consecutive tokens, in f32.
struct KvBlock {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t k_stride = 0;  // between tokens
  int64_t v_stride = 0;
  int tokens = 0;
};

// LayerNorm rows, see NormModulateParams.
struct NormArgs {
  const float* x;
  int64_t x_stride;
  float* out;
  int64_t out_stride;
  int64_t rows;
  int64_t width;
  const float* scale;
  const float* shift;
  float eps;
};

// One pooled block: the mean of `rows` rows of x - offset, and how alike their directions are.
struct PoolArgs {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  int64_t width;
  const float* offset;  // [width] or null
  float* mean;          // [width]
  float* unit_sum;      // scratch [width]; null: similarity not wanted
};

struct ForecastArgs {
  int count;
  const float* factors[TaylorUpdateParams::kMaxFactors];
  float coefficients[TaylorUpdateParams::kMaxFactors];
  float* out;         // or null
  float* residual;    // or null
  const float* gate;  // or null: 1
};

// Attention of `panel` query rows together. How many those are does not change the bits of a row.
struct AttentionKernels {
  int panel;
  // q_t[d][panel] = scale * q[rows][d], zero in lanes past `rows`.
  void (*load_queries)(DType dtype, const void* q, int64_t stride, int rows, int d, float scale,
                       float* q_t);
  // Takes the keys and values of `block` into the state, 32 tokens at a time, so that the bits
  // depend only on which groups of 32 were given. Meanwhile fetches what is `coming` (may be null).
  void (*attend)(AttentionState& state, const KvBlock& block, PrefetchQueue* coming);
  // The same under a softmax_skip. REQUIRES state.top and state.left_out.
  void (*attend_skipping)(AttentionState& state, const KvBlock& block, PrefetchQueue* coming);
  // out[rows][d] = out_t / sum; lse (when given) = natural log of the sum of exponentials.
  void (*store_outputs)(const AttentionState& state, int rows, DType dtype, void* out,
                        int64_t stride, float* lse);
};

struct KernelTable {
  int lanes;  // floats in a vector

  // ---- products. `panel` columns of a packed right factor lie together, k-major.
  int panel;
  // What the factors of `gemm` are: f32, or bf16 with sums in f32. Then `a` and `b` of a span point
  // at bf16 (`lda` still counts floats), rows come from stage_rows(), and panels hold pairs of k:
  // [k / 2][panel][2], zero up to a multiple of kFeatureTile.
  DType products = DType::kF32;
  // c[rows][panel] = (accumulate ? c : 0) + the sum over spans of a * b, k ascending, one fused
  // multiply-add each: the bits do not depend on how rows or k are split over calls. Meanwhile
  // fetches what is `coming` (may be null) into L2. Only the first `cols` columns are wanted; what
  // becomes of the others is left open.
  void (*gemm)(const GemmSpan* spans, int num_spans, int64_t lda, int rows, int cols, float* c,
               bool accumulate, PrefetchQueue* coming);
  // The same with f32 factors whatever `products` says.
  void (*gemm_f32)(const GemmSpan* spans, int num_spans, int64_t lda, int rows, int cols, float* c,
                   bool accumulate, PrefetchQueue* coming);
  // Where products take bf16, else null: dst[r][k] = src[r][k] for `width` columns, rounded to it
  // and filled up with zeros to a multiple of kFeatureTile. Strides are in floats.
  void (*stage_rows)(const float* src, int64_t stride, int64_t rows, int64_t width, float* dst,
                     int64_t dst_stride);
  void (*epilogue)(const EpilogueArgs& args);
  void (*head_epilogue)(const HeadEpilogueArgs& args);

  // ---- attention: of most query rows, and of few (maybe the same).
  const AttentionKernels* attention;
  const AttentionKernels* narrow_attention;

  // ---- rows and elements. Plain names; in place is allowed.
  void (*to_f32)(DType dtype, const void* src, float* dst, int64_t n);
  void (*norm_modulate)(const NormArgs& args);
  // Returns the squared norm of the mean unit vector, or 0 when unit_sum is null.
  float (*pool)(const PoolArgs& args);
  // sum[i] += x[i] over rows
  void (*sum_rows)(const float* x, int64_t stride, int64_t rows, int64_t width, float* sum);
  float (*dot)(const float* a, const float* b, int64_t n);
  void (*taylor_update)(const float* feature, float* const* factors, int count, float inv_distance,
                        int64_t n);
  void (*taylor_forecast)(const ForecastArgs& args, int64_t n);
  void (*activation)(Activation kind, const float* x, float* out, int64_t n);
  void (*combine)(const float* x, float a, const float* y, float b, const float* z, float c,
                  float* out, int64_t n);
  // Exponentials, exposed for accuracy tests: out = 2^x and e^x.
  void (*exp2)(const float* x, float* out, int64_t n);
  void (*exp)(const float* x, float* out, int64_t n);

  // Rounds of register-only multiply-adds, `fma_round_flops` each; returns a value to keep.
  float (*fma_rounds)(int64_t rounds);
  int fma_round_flops;
};

// The table of one Highway target (HWY_AVX3, ...), or null if this build does not have it.
const KernelTable* kernel_table(int64_t target);
// Highway targets in this build, best first, ended by 0.
const int64_t* built_targets();

}  // namespace flashomni::cpu

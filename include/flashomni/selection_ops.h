// SPDX-License-Identifier: Apache-2.0
//
// Scores and selection rules beyond those of the FlashOmni policy (ops.h has these): what other
// sparsity strategies need to fill the two symbol arrays. Shape letters as in ops.h. A backend may
// leave any of them out; it then refuses by name.
#pragma once

#include "flashomni/ops.h"

namespace flashomni {

// Block scores from strided antidiagonals (XAttention, arXiv 2503.16428). With groups m of `stride`
// tokens and l[m,n] = scale * sum_r <q[m*stride + stride-1-r], k[n*stride + r]> (tokens past the
// end contribute nothing), A = softmax_n(l):
//   out[b,h,i,j] = log( sum of A[m,n] over the groups m of query block i and n of kv block j ),
// so that softmax_j(out) is the normalised mass. REQUIRES stride divides both blocks.
struct AntidiagonalScoresParams {
  TensorView q;  // [B, N, H, d]
  TensorView k;  // [B, N, H, d]
  int stride = 8;
  int block_q = 64;
  int block_kv = 64;
  float scale = 0.f;     // 0 means 1 / (sqrt(d) * stride)
  TensorView out;        // [B, H, nQ, nKV]
  TensorView workspace;  // f32 [B, H, ceil(N / stride), max(nQ, nKV)], contiguous
};

// How much attention the tokens of each query block receive as keys: per head, over the pooled
// attention P = softmax_j(scores),
//   out[b,h,i] = sum over all rows r and the kv blocks j that share a token with i of P[r,j].
// A kv block that several query blocks share counts in each of them.
struct ColumnMassParams {
  TensorView scores;  // Z [B, H, nQ, nKV]
  int block_q = 64;
  int block_kv = 64;
  TensorView out;  // [B, H, nQ]
};

// Per block sum |x - y|, or with `relative` that divided by sum |y| (0 where both are 0).
struct BlockChangeParams {
  TensorView x;  // [B, N, H, d]
  TensorView y;  // [B, N, H, d]
  int block = 64;
  bool relative = false;
  TensorView out;  // [B, H, nBlocks]
};

// Chooses S_c from any non-negative score of rows: per head DROP_CDF(w / sum w, theta) over the
// rows outside `keep`; dropped rows are cached. A row whose score is not a finite number >= 0 is
// computed and takes no part. A negative theta caches nothing. Writes the whole of symbols.c.
struct SelectRowsParams {
  TensorView scores;  // [B, H, nQ]
  float theta = 0.f;
  BlockRange keep;
  TensorView gate_q;  // u8 [B, H, nQ]: 0 = never cache this row; optional
  SymbolsView symbols;
};

// Chooses S_s by one threshold a head (DraftAttention, arXiv 2505.14708). P = softmax of each
// computed row over the columns outside keep_kv. Of the n entries of P in rows outside keep_q, with
// k = floor(share * n), those below the k-th smallest value are skipped (none for k = 0; equal
// values are kept together). Protected blocks are kept. Then S_s is cleared where S_c is 0 and
// repaired where S_c is 1. Writes the whole of symbols.s, and P over `scores`.
struct SelectKvShareParams {
  TensorView scores;  // Z [B, H, nQ, nKV], overwritten
  float share = 0.f;
  BlockRange keep_q;
  BlockRange keep_kv;
  SymbolsView symbols;
};

// Gives each head the one of several static patterns that keeps the most pooled attention:
//   mass_p = sum over rows r outside keep_q and j in pattern p of softmax_j(Z)[r,j],
// equal masses go to the smaller p. Writes S_s for every row with S_c = 1 (zero elsewhere).
// REQUIRES patterns without empty rows and with zero padding bits.
struct SelectPatternParams {
  TensorView scores;  // Z [B, H, nQ, nKV]
  BlockRange keep_q;
  const uint64_t* patterns = nullptr;  // [count][nQ][s_words], in backend memory
  int count = 0;
  TensorView choice;  // i32 [B, H], the pattern of each head; optional
  SymbolsView symbols;
};

// Puts kv blocks back that a selector has skipped: S_s[b,h,i,j] = 1 for every j in `keep` and every
// row with S_c = 1. Other symbols stay as they are.
struct KeepColumnsParams {
  BlockRange keep;
  SymbolsView symbols;
};

// sum |x - y| and sum |y|.
struct ChangeSums {
  double difference = 0;
  double magnitude = 0;
  // difference / magnitude; 0 for two tensors of zeros.
  double relative() const {
    return magnitude > 0 ? difference / magnitude : difference > 0 ? 1.0 : 0.0;
  }
};

// Into host-visible memory; final once the stream has passed this point.
struct MeasureChangeParams {
  static constexpr int kRows = 64;  // rows summed by one task
  TensorView x;                     // [B, M, D]
  TensorView y;                     // [B, M, D]
  TensorView workspace;             // f64 [B, ceil(M / kRows), 2]
  ChangeSums* out = nullptr;
};

}  // namespace flashomni

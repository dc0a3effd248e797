// SPDX-License-Identifier: Apache-2.0
//
// From block scores to symbols, by definition: which query blocks may come from the feature cache
// (S_c), and which key/value blocks the others look at (S_s).
#pragma once

#include <cstdint>
#include <vector>

namespace flashomni::reference {

// Block counts and sizes behind Z [B, H, nQ, nKV]. Only block_q * i and block_kv * j are used of
// the sizes: a row block and a kv block belong together when they share a token.
struct ScoreShape {
  int batch = 1;
  int heads = 1;
  int num_q = 0;
  int num_kv = 0;
  int block_q = 64;
  int block_kv = 64;
};

// Blocks [begin, end).
struct Blocks {
  int begin = 0;
  int end = 0;
  bool contains(int i) const { return begin <= i && i < end; }
  bool empty() const { return end <= begin; }
};

enum class TextScore {
  kMeanOfSoftmaxes,  // (softmax(u) + softmax(w)) / 2
  kSoftmaxOfSum,     // softmax(u + w)
};

template <class Real>
struct CachedRowsInput {
  ScoreShape shape;
  std::vector<Real> scores;  // Z [B, H, nQ, nKV]
  Blocks text_q;
  Blocks text_kv;
  TextScore mode = TextScore::kMeanOfSoftmaxes;
  double theta = 0;
  std::vector<uint8_t> gate_q;  // [B, H, nQ], 0 = never cache; empty = all 1
};

// S_c [B, H, nQ]. Per head, over the vision blocks i (those outside text_q):
//   u_i = sum of Z[r, j] over text rows r and the kv blocks j that share a token with block i,
//   w_i = sum of Z[i, j] over text columns j,
// combined by `mode` into a distribution of which DROP_CDF(theta) is cached. Text rows and rows
// with gate 0 are computed; without text everything is.
template <class Real>
std::vector<uint8_t> select_cached_rows(const CachedRowsInput<Real>& in);

enum class Rule { kDropCdf, kKeepCdfLt, kKeepCdfGe, kTopK };

template <class Real>
struct KvBlocksInput {
  ScoreShape shape;
  std::vector<Real> scores;  // Z [B, H, nQ, nKV]
  Rule rule = Rule::kDropCdf;
  double parameter = 0;          // theta, tau, tau or k
  Blocks keep_q;                 // these rows keep every kv block
  Blocks keep_kv;                // these columns are kept in every row
  std::vector<uint8_t> gate_q;   // [B, H, nQ], 0 = keep the whole row; empty = all 1
  std::vector<uint8_t> gate_kv;  // [B, H, nKV], 0 = not in the softmax, then kept; empty = all 1
  std::vector<uint8_t> c;        // S_c [B, H, nQ]
};

// S_s [B, H, nQ, nKV]: the rule on softmax_j(Z) row by row, then protection, then nothing where
// S_c is 0, and where S_c is 1 and the row came out empty its diagonal block (the kv block of the
// row block's first token, or the last kv block).
template <class Real>
std::vector<uint8_t> select_kv_blocks(const KvBlocksInput<Real>& in);

}  // namespace flashomni::reference

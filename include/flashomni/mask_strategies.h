// SPDX-License-Identifier: Apache-2.0
//
// Strategies that choose key/value blocks from this step's queries and keys: all of what they do is
// S_s, and S_c is 1 everywhere.
#pragma once

#include <memory>
#include <string>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"

namespace flashomni {

// SpargeAttn (arXiv 2502.18137, thu-ml/SpargeAttn): pooled attention of smoothed keys, blocks whose
// tokens are unlike each other always computed; and, with pv, its second stage inside the kernel.
struct SpargeOptions {
  std::string mode = "topk";  // or "cdf"
  double topk = 0.5;          // share of a row's kv blocks that is kept
  double tau = 0.98;          // cdf: pooled attention that is kept at most
  double theta_sim = -0.1;    // similarity at or below which a block is always computed (cdf: 0.6)
  bool smooth_k = true;       // subtract the mean key first
  bool sink = false;          // keep the first kv block in every row
  // Keys whose scores all lie pv powers of two below a row's highest so far are left out
  // (published: 50, practically lossless; tuned 10 to 20); 0 = off. CPU only. See
  // AttentionParams::softmax_skip.
  double pv = 0;
  int block_q = 128;
  int block_kv = 64;
  bool protect_text = true;  // not in the published code, which relies on the gates
  MaskScheduleOptions schedule{0, 0, 1, 0, false};
};

// DraftAttention (arXiv 2505.14708): tokens are pooled over picture patches that are one block
// each, and one threshold a head leaves the weakest share of block pairs out.
struct DraftOptions {
  double sparsity = 0.75;  // share of vision pairs left out (0.75 for Wan, 0.9 for HunyuanVideo)
  int patch_rows = 8;      // of the token grid; 0: blocks are runs of tokens as they come
  int patch_cols = 16;
  bool ragged = false;  // every patch is a block, also at the edges, where patches are smaller
  int block_q = 128;
  int block_kv = 128;
  bool protect_text = true;
  MaskScheduleOptions schedule{5, 50, 1, 0, false};
};

// The fine branch of Video Sparse Attention (arXiv 2505.13389) used without training: block-mean
// scores, the k best blocks of each row. The trained coarse branch is not there.
struct VsaOptions {
  double sparsity = 0.8;  // share of a row's blocks left out (0.8 to 0.9 published)
  int tile_frames = 4;    // tokens of one tile along each axis; all 0: runs of tokens as they come
  int tile_rows = 4;
  int tile_cols = 4;
  bool ragged = false;  // every tile is a block, also at the edges, where tiles are smaller
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
  MaskScheduleOptions schedule{0, 0, 1, 0, false};
};

// XAttention (arXiv 2503.16428): blocks are scored by strided antidiagonals of the score matrix.
struct XAttentionOptions {
  int stride = 8;    // tokens between the antidiagonals' samples (8 for HunyuanVideo, else 16)
  double tau = 0.9;  // attention that is kept at least, in each row
  int block_q = 128;
  int block_kv = 128;
  bool protect_text = true;
  MaskScheduleOptions schedule{5, 50, 1, 0, false};
};

Result<std::unique_ptr<Strategy>> make_sparge(const SpargeOptions& options);
Result<std::unique_ptr<Strategy>> make_draft(const DraftOptions& options);
Result<std::unique_ptr<Strategy>> make_vsa(const VsaOptions& options);
Result<std::unique_ptr<Strategy>> make_xattention(const XAttentionOptions& options);

}  // namespace flashomni

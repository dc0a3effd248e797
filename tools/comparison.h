// SPDX-License-Identifier: Apache-2.0
//
// The figures of `flashomni compare`: what one sparse run gained and lost against the dense run of
// the same prompt and seed, their means, and both as JSON and as a table.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/text_to_image.h"

namespace flashomni::tools {

struct Figures {
  double dense_seconds = 0;
  double seconds = 0;  // of the run that is compared with dense
  double psnr_db = 0;  // infinity for equal pictures
  double ssim = 0;
  double attention_sparsity = 0;
  double dispatch_sparsity = 0;
  double gemm_q_sparsity = 0;
  double gemm_o_sparsity = 0;
  double degraded_share = 0;
  double flops_skipped_share = 0;  // of all FLOPs of the layers
  double plain_share = 0;          // of the steps: first ones that compute what dense's do
  size_t peak_cache_bytes = 0;
  std::vector<Fallback> fallbacks;

  double speedup() const { return seconds > 0 ? dense_seconds / seconds : 0; }
};

// A finished run, as much of it as is compared.
struct Measured {
  Image image;
  double seconds = 0;
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;  // where they were asked for
};
// Whether pictures of this request can be compared, before any time is spent.
Status check_comparable(const TextToImageRequest& request);
// Pictures of another size or below the SSIM window are refused.
Result<Figures> compare(const Measured& dense, const Measured& other);

// One prompt, dense and sparse.
inline constexpr int kDifferenceGain = 8;
struct Comparison {
  std::string prompt;
  Measured dense, sparse;
  Image difference;  // of the pictures, times kDifferenceGain
  Figures figures;
  std::vector<Figures> noise_floor;  // one, or none
  std::vector<Figures> stages;       // of an ablation, as many as it has
};

// Seconds, shares and SSIM are means (so that speedup() is the ratio of the total times), the peak
// is the largest, fallbacks are added up. PSNR is the mean over the pictures that differ; infinity
// when all are equal. REQUIRES at least one.
Figures mean(const std::vector<Figures>& all);

// The fields of `compare --json`. An infinite PSNR is null, with "identical": true.
nlohmann::json to_json(const Figures& f);

// Cells of a row, and the headings above them; the first column is the caller's.
std::vector<std::string> table_header(const std::string& first);
std::vector<std::string> table_row(const std::string& first, const Figures& f);

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
#include "tools/comparison.h"

#include <algorithm>
#include <cmath>

#include "pipelines/metrics.h"
#include "pipelines/run_json.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

void add_fallbacks(const std::vector<Fallback>& from, std::vector<Fallback>& to) {
  for (const Fallback& f : from) {
    const auto same = std::find_if(to.begin(), to.end(), [&](const Fallback& t) {
      return t.where == f.where && t.reason == f.reason;
    });
    if (same == to.end()) {
      to.push_back(f);
    } else {
      same->count += f.count;
    }
  }
}

constexpr int kSsimWindow = 11;  // pixels, see ssim()

}  // namespace

Status check_comparable(const TextToImageRequest& r) {
  if (std::min(r.width, r.height) >= kSsimWindow) return ok_status();
  return invalid_argument("the pictures are " + std::to_string(r.width) + "x" +
                          std::to_string(r.height) + ", a comparison takes at least " +
                          std::to_string(kSsimWindow) + " pixels a side");
}

Result<Figures> compare(const Measured& dense, const Measured& other) {
  Figures f;
  f.dense_seconds = dense.seconds;
  f.seconds = other.seconds;
  FO_ASSIGN_OR_RETURN(f.psnr_db, psnr_db(dense.image, other.image));
  FO_ASSIGN_OR_RETURN(f.ssim, ssim(dense.image, other.image));
  const RunReport& r = other.report;
  f.attention_sparsity = r.attention_sparsity;
  f.dispatch_sparsity = r.dispatch_sparsity;
  f.gemm_q_sparsity = r.gemm_q_sparsity;
  f.gemm_o_sparsity = r.gemm_o_sparsity;
  f.degraded_share = r.degraded_share;
  f.flops_skipped_share = r.flops_dense > 0 ? r.flops_skipped / r.flops_dense : 0;
  f.plain_share = r.steps.empty() ? 0 : double(r.plain_steps) / double(r.steps.size());
  f.peak_cache_bytes = r.peak_cache_bytes;
  f.fallbacks = r.fallbacks;
  return f;
}

Figures mean(const std::vector<Figures>& all) {
  Figures m;
  double psnr_sum = 0;
  int different = 0;
  for (const Figures& f : all) {
    const double share = 1.0 / double(all.size());
    m.dense_seconds += f.dense_seconds * share;
    m.seconds += f.seconds * share;
    m.ssim += f.ssim * share;
    m.attention_sparsity += f.attention_sparsity * share;
    m.dispatch_sparsity += f.dispatch_sparsity * share;
    m.gemm_q_sparsity += f.gemm_q_sparsity * share;
    m.gemm_o_sparsity += f.gemm_o_sparsity * share;
    m.degraded_share += f.degraded_share * share;
    m.flops_skipped_share += f.flops_skipped_share * share;
    m.peak_cache_bytes = std::max(m.peak_cache_bytes, f.peak_cache_bytes);
    add_fallbacks(f.fallbacks, m.fallbacks);
    if (std::isinf(f.psnr_db)) continue;
    psnr_sum += f.psnr_db;
    ++different;
  }
  m.psnr_db = different ? psnr_sum / different : all.front().psnr_db;
  return m;
}

nlohmann::json to_json(const Figures& f) {
  const bool identical = std::isinf(f.psnr_db);
  return {{"dense", {{"seconds", f.dense_seconds}}},
          {"sparse", {{"seconds", f.seconds}}},
          {"speedup", f.speedup()},
          {"psnr_db", identical ? nlohmann::json() : nlohmann::json(f.psnr_db)},
          {"identical", identical},
          {"ssim", f.ssim},
          {"attention_sparsity", f.attention_sparsity},
          {"dispatch_sparsity", f.dispatch_sparsity},
          {"gemm_q_sparsity", f.gemm_q_sparsity},
          {"gemm_o_sparsity", f.gemm_o_sparsity},
          {"degraded_share", f.degraded_share},
          {"flops_skipped_share", f.flops_skipped_share},
          {"peak_cache_bytes", f.peak_cache_bytes},
          {"fallbacks", fallbacks_json(f.fallbacks)}};
}

std::vector<std::string> table_header(const std::string& first) {
  return {first,       "dense s",  "sparse s", "speed-up", "PSNR dB",  "SSIM",
          "attention", "dispatch", "GEMM-Q",   "GEMM-O",   "degraded", "cache MiB"};
}

std::vector<std::string> table_row(const std::string& first, const Figures& f) {
  return {first,
          fixed(f.dense_seconds, 2),
          fixed(f.seconds, 2),
          fixed(f.speedup(), 2) + "x",
          fixed(f.psnr_db, 2),
          fixed(f.ssim, 4),
          percent(f.attention_sparsity),
          percent(f.dispatch_sparsity),
          percent(f.gemm_q_sparsity),
          percent(f.gemm_o_sparsity),
          percent(f.degraded_share),
          mebibytes(f.peak_cache_bytes)};
}

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// The built-in strategies as plain option structs. The field names are the option names that JSON
// files, the command line and make_strategy() take.
#pragma once

#include <memory>
#include <string>

#include "flashomni/adaptive_strategy.h"
#include "flashomni/cache_strategies.h"
#include "flashomni/mask_strategies.h"
#include "flashomni/plan_strategies.h"
#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"
#include "flashomni/video_strategies.h"

namespace flashomni {

struct DenseOptions {};

// The paper's policy (FLUX form): cache the image rows that matter least to the text, skip the kv
// blocks with the least pooled attention. Source: arXiv 2509.25401 and its FLUX example.
struct FlashOmniOptions {
  double tau_q = 0.5;     // target share of the text-score distribution that may be cached; 0 = off
  double tau_kv = 0.15;   // target share of a row's pooled attention that may be skipped; 0 = off
  double ramp = 2.0;      // thresholds grow as tau * (t/T)^ramp
  int order = 1;          // D, Taylor order of the feature forecast
  double S_q = 0.3;       // a layer whose computed share of rows falls to this degrades; 0 = never
  int degrade_order = 0;  // Taylor order of module outputs in degraded layers
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;                      // text rows and columns are always computed
  std::string text_score = "mean_of_softmaxes";  // or "softmax_of_sum" (HunyuanVideo form)
  // What decides which rows are cached: "text" as in the paper; for models whose self-attention
  // holds no text "column_mass" (pooled attention received), "change" (of the output since the last
  // refresh) or "forecast_error" (tau_q is then a share of the whole forecast error).
  std::string row_score = "text";
  bool residual = false;  // skipped blocks are made up for by what they gave at the Update; with it
                          // cached rows are reused as they were (order 0)
  bool sim_gate = false;  // compute blocks whose tokens are unlike each other
  double theta_sim = 0.1;  // similarity at or below which the gate acts
  bool smooth_k = false;   // subtract the mean key before pooling
  bool prime = true;       // refresh features in the last dense warm-up steps as well
  ScheduleOptions schedule;
  // So many of the first Dispatch steps are Updates after all; of a fraction, only the trailing
  // layers. Finer than warmup and interval, which on short runs are far apart. Scaled as they are.
  double extra_updates = 0;
};

// Every query block sees the kv blocks within a token distance (and the text, and its own block).
struct WindowOptions {
  int window = 256;       // tokens on either side
  bool residual = false;  // add what full attention had besides at the last Update
  int order = 0;          // Taylor order of the residual
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
  ScheduleOptions schedule{1, 0, 0, true};
};

// Block-diagonal attention: the sequence is cut into groups that see only themselves (and text).
struct BlockDiagonalOptions {
  int groups = 2;
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
  ScheduleOptions schedule{1, 0, 0, true};
};

// Random symbols with exact counts, for benchmarks and tests: a share of rows is cached and a share
// of the remaining pairs is skipped; some layers cache all rows and degrade. Says nothing about
// quality.
struct RandomOptions {
  double cached = 0.3;   // share of S_c zeros among unprotected rows
  double skipped = 0.3;  // share of S_s zeros among the unprotected pairs
  double degraded = 0;   // share of layers, evenly spread, that degrade
  int order = 1;
  int degrade_order = 0;
  int64_t seed = 0;
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
  ScheduleOptions schedule;
};

std::unique_ptr<Strategy> make_dense(const DenseOptions& options = {});
Result<std::unique_ptr<Strategy>> make_flashomni(const FlashOmniOptions& options);
Result<std::unique_ptr<Strategy>> make_window(const WindowOptions& options);
Result<std::unique_ptr<Strategy>> make_block_diagonal(const BlockDiagonalOptions& options);
Result<std::unique_ptr<Strategy>> make_random(const RandomOptions& options);

}  // namespace flashomni

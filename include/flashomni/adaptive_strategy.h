// SPDX-License-Identifier: Apache-2.0
//
// FlashOmni with thresholds that follow what caching costs while the run goes on.
#pragma once

#include <memory>
#include <string>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"

namespace flashomni {

// Every refresh measures, layer by layer, how far the forecast attention output is off. The rows
// that a layer may cache until the next one are those whose measured errors together stay below a
// budget, error_budget * (1 - quality)^2 of the output; a layer far below it reuses its whole
// module outputs until the next Update. Updates lie `interval` * (1 + 2 (1 - quality)^2) steps
// apart.
struct AdaptiveOptions {
  double quality = 0.5;       // 0: fastest .. 1: dense
  double error_budget = 0.5;  // relative L1 error of a layer's attention output at quality 0
  double reuse_margin = 2;    // a layer is reused whole below budget / margin; 0 = never
  double tau_kv = 0;          // share of a row's pooled attention skipped at quality 0
  int order = 1;              // D, Taylor order of the feature forecast
  int degrade_order = 1;      // Taylor order of reused module outputs
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;  // text rows and columns are always computed
  ScheduleOptions schedule{9, 3, 50, true};
};

Result<std::unique_ptr<Strategy>> make_flashomni_adaptive(const AdaptiveOptions& options);

}  // namespace flashomni

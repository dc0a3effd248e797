// SPDX-License-Identifier: Apache-2.0
//
// Strategies that reuse whole outputs: of modules, of attention, or of all layers of a step.
#pragma once

#include <memory>
#include <string>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"

namespace flashomni {

// FORA (arXiv 2407.01425): every N-th step is computed, the others reuse the outputs of attention
// and MLP of all layers as they were.
struct ForaOptions {
  ScheduleOptions schedule{1, 3, 0, false};
};

// TaylorSeer (arXiv 2503.06923): as FORA, but module outputs are forecast by their Taylor series.
struct TaylorSeerOptions {
  int order = 1;  // O, 0 to 3
  ScheduleOptions schedule{3, 6, 0, false};
};

// TeaCache (arXiv 2411.19108): a step is skipped, and what all layers added last time is added
// again, while the rescaled change of the first layer's modulated input has not summed up to a
// threshold.
struct TeaCacheOptions {
  double threshold = 0.25;  // delta
  // Polynomial that rescales the change: "flux", "hunyuan_video", "wan_t2v_1.3b", "wan_t2v_14b",
  // "wan_i2v_480p", "wan_i2v_720p" (published fits) or "none".
  std::string coefficients = "flux";
  int order = 0;  // Taylor order of what the layers add; 0 published
};

// First-block and DBCache step skipping (vipshop/cache-dit): the first layers always run, and while
// what they add changes little, the other layers' part is reused.
struct FirstBlockOptions {
  double threshold = 0.08;  // relative change below which a step is skipped
  int first_layers = 1;     // F_n: 1 is FBCache, DBCache uses 8
  int last_layers = 0;      // B_n
  int warmup = 8;           // leading steps that are computed
  int schedule_steps = 50;  // run length that warmup is meant for; 0 = take it as it is
  int max_consecutive = 0;  // skipped steps in a row; 0 = no limit
  int order = 0;            // Taylor order of the reused part
};

// Pyramid Attention Broadcast (arXiv 2408.12588): inside a range of steps each kind of layer
// computes its attention every r-th step only; MLPs are always computed.
struct PabOptions {
  int range = 2;       // r of all layers that `ranges` does not name
  std::string ranges;  // "name prefix=r, ...", e.g. "single_transformer_blocks=3"
  double from = 0.15;  // share of the run where reuse begins ([850, 100] of 1000 published)
  double to = 0.9;     // and ends
  int order = 0;       // Taylor order of the reused output; 0 published
  int block_q = 64;
  int block_kv = 64;
};

Result<std::unique_ptr<Strategy>> make_fora(const ForaOptions& options);
Result<std::unique_ptr<Strategy>> make_taylorseer(const TaylorSeerOptions& options);
Result<std::unique_ptr<Strategy>> make_teacache(const TeaCacheOptions& options);
Result<std::unique_ptr<Strategy>> make_first_block(const FirstBlockOptions& options);
Result<std::unique_ptr<Strategy>> make_pab(const PabOptions& options);

}  // namespace flashomni

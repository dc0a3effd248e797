// SPDX-License-Identifier: Apache-2.0
//
// Head caching; see HeadCacheOptions.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/plan_strategy.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

using strategies::HeadAction;

class HeadCacheStrategy : public strategies::PlanStrategy {
 public:
  explicit HeadCacheStrategy(const HeadCacheOptions& o)
      : PlanStrategy({o.order, false, o.block_q, o.block_kv, true}), o_(o) {}
  const char* name() const override { return "head_cache"; }

 protected:
  Status fill(const RunInfo& run, strategies::PlanTable& table) const override {
    const int warmup = strategies::scaled_steps(o_.warmup, o_.schedule_steps, run.steps);
    const int heads = run.sequence.heads;
    const auto cached = static_cast<int>(std::lround(o_.cached_heads * heads));
    for (int step = warmup; step < run.steps; ++step) {
      if ((step - warmup + 1) % o_.interval == 0) continue;
      const int turn = o_.rotate ? (step - warmup + 1) / o_.interval * cached : 0;
      for (int layer = 0; layer < run.layers; ++layer) {
        for (int h = 0; h < std::min(heads, cached); ++h) {
          table.at(step, layer, (turn + h) % heads).action = HeadAction::kCached;
        }
      }
    }
    return ok_status();
  }

 private:
  HeadCacheOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_head_cache(const HeadCacheOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new HeadCacheStrategy(options));
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// DiTFastAttnV2; see DitFastAttnV2Options. The published plans come from a search; without one the
// first heads are cached, the next ones attend in a window, and the rest stays full.
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/plan_strategy.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

using strategies::HeadAction;
using strategies::PlanRule;

class DitFastAttnV2Strategy : public strategies::PlanStrategy {
 public:
  DitFastAttnV2Strategy(const DitFastAttnV2Options& o, std::vector<PlanRule> rules)
      : PlanStrategy({o.order, false, o.block_q, o.block_kv, true}),
        o_(o),
        rules_(std::move(rules)) {}
  const char* name() const override { return "ditfastattn-v2"; }

 protected:
  Status fill(const RunInfo& run, strategies::PlanTable& table) const override {
    if (!rules_.empty()) return table.apply(rules_, 0);
    const int warmup = strategies::scaled_steps(o_.warmup, o_.schedule_steps, run.steps);
    const int heads = run.sequence.heads;
    const auto cached = static_cast<int>(std::lround(o_.cached_heads * heads));
    const auto window = static_cast<int>(std::lround(o_.window_heads * heads));
    for (int step = warmup; step < run.steps; ++step) {
      if ((step - warmup + 1) % o_.interval == 0) continue;
      for (int layer = 0; layer < run.layers; ++layer) {
        for (int h = 0; h < std::min(heads, cached + window); ++h) {
          const bool is_cached = h < cached;
          table.at(step, layer, h) = {is_cached ? HeadAction::kCached : HeadAction::kWindow,
                                      is_cached ? 0 : o_.window};
        }
      }
    }
    return ok_status();
  }

 private:
  DitFastAttnV2Options o_;
  std::vector<PlanRule> rules_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_ditfastattn_v2(const DitFastAttnV2Options& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_ASSIGN_OR_RETURN(std::vector<PlanRule> rules, strategies::parse_plan(options.plan));
  return std::unique_ptr<Strategy>(new DitFastAttnV2Strategy(options, std::move(rules)));
}

}  // namespace flashomni

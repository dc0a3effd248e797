// SPDX-License-Identifier: Apache-2.0
//
// DiTFastAttn; see DitFastAttnOptions. The window is made of blocks, a superset of the token-exact
// one; the residual is formed with the same mask, so that they belong together.
#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/plan_strategy.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

using strategies::HeadAction;
using strategies::PlanRule;

class DitFastAttnStrategy : public strategies::PlanStrategy {
 public:
  DitFastAttnStrategy(const DitFastAttnOptions& o, std::vector<PlanRule> rules)
      : PlanStrategy({0, o.residual, o.block_q, o.block_kv, o.protect_text}),
        o_(o),
        rules_(std::move(rules)) {}
  const char* name() const override { return "ditfastattn"; }

 protected:
  Status fill(const RunInfo& run, strategies::PlanTable& table) const override {
    if (!rules_.empty()) return table.apply(rules_, 0);
    const int warmup = strategies::scaled_steps(o_.warmup, o_.schedule_steps, run.steps);
    for (int step = warmup; step < run.steps; ++step) {
      const int phase = (step - warmup + 1) % o_.interval;  // 0: full
      for (int layer = 0; layer < run.layers; ++layer) {
        if (phase == 0) {
          table.alias(step, layer) = o_.alias;
          continue;
        }
        const bool shared = phase >= o_.interval - o_.shared;
        for (int h = 0; h < run.sequence.heads; ++h) {
          table.at(step, layer, h) = {shared ? HeadAction::kCached : HeadAction::kWindow,
                                      shared ? 0 : o_.window};
        }
      }
    }
    return ok_status();
  }

 private:
  DitFastAttnOptions o_;
  std::vector<PlanRule> rules_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_ditfastattn(const DitFastAttnOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_ASSIGN_OR_RETURN(std::vector<PlanRule> rules, strategies::parse_plan(options.plan));
  return std::unique_ptr<Strategy>(new DitFastAttnStrategy(options, std::move(rules)));
}

}  // namespace flashomni

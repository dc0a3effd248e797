// SPDX-License-Identifier: Apache-2.0
//
// First-block (DBCache) step skipping; see FirstBlockOptions. The last step is computed.
#include "flashomni/strategies.h"
#include "strategies/schedule.h"
#include "strategies/step_skip.h"

namespace flashomni {
namespace {

class FirstBlockStrategy : public strategies::StepSkipStrategy {
 public:
  explicit FirstBlockStrategy(const FirstBlockOptions& o) : o_(o) {}
  const char* name() const override { return "first_block"; }
  Status begin_run(const RunInfo& run) override {
    warmup_ = strategies::scaled_steps(o_.warmup, o_.schedule_steps, run.steps);
    skipped_ = 0;
    return ok_status();
  }
  std::string dense_reason() const override {
    return o_.threshold > 0 ? "" : "threshold is 0, so that no step is skipped";
  }
  SkipSpec skip_spec() const override {
    return {.enabled = true,
            .probe = SkipProbe::kPrefixResidual,
            .prefix = o_.first_layers,
            .suffix = o_.last_layers,
            .order = o_.order};
  }
  bool skip_model(const StepContext& step, double change) override {
    const bool allowed = step.step >= warmup_ && step.step < step.steps - 1 &&
                         (o_.max_consecutive == 0 || skipped_ < o_.max_consecutive);
    const bool skip = allowed && change >= 0 && change < o_.threshold;
    skipped_ = skip ? skipped_ + 1 : 0;
    return skip;
  }

 private:
  FirstBlockOptions o_;
  int warmup_ = 0;
  int skipped_ = 0;  // in a row
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_first_block(const FirstBlockOptions& options) {
  return std::unique_ptr<Strategy>(new FirstBlockStrategy(options));
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// What strategies share that compute some steps whole and reuse all module outputs in the others.
#pragma once

#include <algorithm>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"
#include "strategies/schedule.h"

namespace flashomni::strategies {

class ModuleCacheStrategy : public Strategy {
 public:
  ModuleCacheStrategy(const ScheduleOptions& schedule, int order)
      : options_(schedule), order_(order) {}

  int block_q() const override { return 64; }
  int block_kv() const override { return 64; }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.symbols = false;
    c.modules = true;
    c.degrade_order = order_;
    c.refresh_full_from = std::max(0, schedule_.warmup() - 1 - order_);
    return c;
  }
  Status begin_run(const RunInfo& run) override {
    schedule_ = UpdateSchedule(options_, run.steps);
    return ok_status();
  }
  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }
  LayerAction layer_action(const StepContext& step, int, int) override {
    return schedule_.kind(step.step) == StepKind::kDispatch ? LayerAction::kReuse
                                                            : LayerAction::kFollow;
  }
  Status build(const BuildContext&, SymbolsView) override {
    return internal_error("this strategy builds no symbols");
  }

 private:
  ScheduleOptions options_;
  int order_;
  UpdateSchedule schedule_;
};

}  // namespace flashomni::strategies

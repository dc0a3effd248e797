// SPDX-License-Identifier: Apache-2.0
//
// What strategies share that choose blocks from each step's queries and keys and cache nothing.
#pragma once

#include <string>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"
#include "strategies/schedule.h"

namespace flashomni::strategies {

class MaskStrategy : public Strategy {
 public:
  MaskStrategy(int block_q, int block_kv, bool protect_text, const MaskScheduleOptions& schedule)
      : block_q_(block_q), block_kv_(block_kv), protect_text_(protect_text), schedule_(schedule) {}

  int block_q() const override { return block_q_; }
  int block_kv() const override { return block_kv_; }
  CacheSpec cache_spec() const override { return {}; }

  Status begin_run(const RunInfo& run) override {
    steps_ = run.steps;
    warmup_ = scaled_steps(schedule_.warmup, schedule_.schedule_steps, run.steps);
    return ok_status();
  }
  StepKind begin_step(const StepContext& step) override {
    const bool last = schedule_.last_full && step.step == steps_ - 1;
    return step.step < warmup_ || last ? StepKind::kFull : StepKind::kDispatch;
  }
  LayerAction layer_action(const StepContext& step, int layer, int) override {
    if (begin_step(step) == StepKind::kFull || layer < schedule_.dense_layers) {
      return LayerAction::kDense;
    }
    const bool due = (step.step - warmup_) % schedule_.rebuild == 0;
    return due ? LayerAction::kRebuild : LayerAction::kFollow;
  }

 protected:
  BlockRange keep_q(const BuildContext& c) const {
    return protect_text_ ? text_blocks(c, block_q_) : BlockRange{};
  }
  BlockRange keep_kv(const BuildContext& c) const {
    return protect_text_ ? text_blocks(c, block_kv_) : BlockRange{};
  }

  int block_q_;
  int block_kv_;

 private:
  bool protect_text_;
  MaskScheduleOptions schedule_;
  int steps_ = 0;
  int warmup_ = 0;
};

}  // namespace flashomni::strategies

// SPDX-License-Identifier: Apache-2.0
//
// The Update-Dispatch state machine shared by all strategies: which steps are Full, Update or
// Dispatch (the scheduler of TaylorSeer and FlashOmni, with the last step dense).
#pragma once

#include "flashomni/strategies.h"

namespace flashomni::strategies {

class UpdateSchedule {
 public:
  UpdateSchedule() = default;
  // Scales warm-up and interval to a run of `steps` steps.
  UpdateSchedule(const ScheduleOptions& options, int steps);

  StepKind kind(int step) const;
  int warmup() const { return warmup_; }
  int interval() const { return interval_; }

 private:
  int steps_ = 0;
  int warmup_ = 1;
  int interval_ = 0;
  bool last_full_ = true;
};

// A number of steps that is meant for a run of `schedule_steps`, in a run of `steps`; 0 stays 0,
// and a schedule_steps of 0 changes nothing.
int scaled_steps(int value, int schedule_steps, int steps);

// The text blocks of a sequence: every block that holds at least one text token.
BlockRange text_blocks(const SequenceInfo& sequence, int block);

}  // namespace flashomni::strategies

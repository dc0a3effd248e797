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

// A schedule of which some of the first Dispatch steps are Updates after all: a warm-up that is
// longer by less than an interval, or by less than a step, without moving the Updates behind it.
// In a part of a step the trailing layers refresh: the step's output is theirs, while what leading
// ones refresh is lost behind trailing ones that reuse (docs/tuning.md has the measurement).
class ExtendedSchedule {
 public:
  ExtendedSchedule() = default;
  // `extra` counts steps, its fraction trailing layers out of `layers`.
  ExtendedSchedule(const UpdateSchedule& schedule, double extra, int layers);

  // What Strategy::begin_step and Strategy::layer_action answer.
  StepKind kind(int step) const;
  LayerAction action(int step, int layer) const;
  int warmup() const { return schedule_.warmup(); }

 private:
  // How many trailing layers refresh in a step that dispatches by the schedule.
  int refreshed_layers(int step) const;

  UpdateSchedule schedule_;
  int64_t extra_ = 0;  // layers over all steps
  int layers_ = 1;
};

// A number of steps that is meant for a run of `schedule_steps`, in a run of `steps`; 0 stays 0,
// and a schedule_steps of 0 changes nothing.
int scaled_steps(int value, int schedule_steps, int steps);

// The text blocks of a sequence: every block that holds at least one text token.
BlockRange text_blocks(const SequenceInfo& sequence, int block);
// Of what is being built, with its ragged blocks if it has them.
BlockRange text_blocks(const BuildContext& context, int block);

}  // namespace flashomni::strategies

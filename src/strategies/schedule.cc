// SPDX-License-Identifier: Apache-2.0
#include "strategies/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/block_range.h"

namespace flashomni::strategies {

UpdateSchedule::UpdateSchedule(const ScheduleOptions& options, int steps)
    : steps_(steps),
      warmup_(options.warmup),
      interval_(options.interval),
      last_full_(options.last_full) {
  if (options.schedule_steps > 0) {
    warmup_ = scaled_steps(warmup_, options.schedule_steps, steps);
    // An interval of 1 would leave no Dispatch step at all.
    if (interval_ > 1) {
      interval_ = std::max(2, scaled_steps(interval_, options.schedule_steps, steps));
    }
  }
}

StepKind UpdateSchedule::kind(int step) const {
  const int first_update = warmup_ - 1;
  if (step < first_update) return StepKind::kFull;
  if (last_full_ && step == steps_ - 1) return StepKind::kFull;
  if (step == first_update) return StepKind::kUpdate;
  const bool refresh = interval_ > 0 && (step - first_update) % interval_ == 0;
  return refresh ? StepKind::kUpdate : StepKind::kDispatch;
}

ExtendedSchedule::ExtendedSchedule(const UpdateSchedule& schedule, double extra, int layers)
    : schedule_(schedule), extra_(std::llround(extra * layers)), layers_(layers) {}

int ExtendedSchedule::refreshed_layers(int step) const {
  int64_t left = extra_;
  for (int t = 0; t < step && left > 0; ++t) {
    if (schedule_.kind(t) == StepKind::kDispatch) left -= layers_;
  }
  return static_cast<int>(std::clamp<int64_t>(left, 0, layers_));
}

StepKind ExtendedSchedule::kind(int step) const {
  const StepKind k = schedule_.kind(step);
  if (k != StepKind::kDispatch || refreshed_layers(step) < layers_) return k;
  return StepKind::kUpdate;
}

LayerAction ExtendedSchedule::action(int step, int layer) const {
  if (kind(step) != StepKind::kDispatch) return LayerAction::kFollow;
  return layer >= layers_ - refreshed_layers(step) ? LayerAction::kUpdate : LayerAction::kFollow;
}

int scaled_steps(int value, int schedule_steps, int steps) {
  if (schedule_steps == 0 || value == 0) return value;
  return std::max(1, static_cast<int>(std::lround(double(value) * steps / schedule_steps)));
}

BlockRange text_blocks(const SequenceInfo& sequence, int block) {
  if (sequence.text_end <= sequence.text_begin) return {0, 0};
  return {sequence.text_begin / block, (sequence.text_end + block - 1) / block};
}

BlockRange text_blocks(const BuildContext& c, int block) {
  if (c.block_starts.empty()) return text_blocks(c.sequence, block);
  return blocks_holding(c.block_starts, c.sequence.text_begin, c.sequence.text_end);
}

}  // namespace flashomni::strategies

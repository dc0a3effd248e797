// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace flashomni {

// When steps are Full, Update or Dispatch. Steps 0 .. warmup-2 are Full, step warmup-1 is the first
// Update, then every interval-th step is one, and the last step is Full.
struct ScheduleOptions {
  int warmup = 8;           // W, leading dense steps (the last of them is the first Update)
  int interval = 6;         // N, steps from one Update to the next; 0 = never refresh
  int schedule_steps = 50;  // warmup and interval are meant for a run of so many steps and scaled
                            // to the real number; 0 = take them as they are
  bool last_full = true;    // run the last step dense
};

// When strategies that only skip blocks choose them anew. They need no Update: every step after
// the warm-up is sparse.
struct MaskScheduleOptions {
  int warmup = 5;           // leading dense steps
  int schedule_steps = 50;  // warmup is meant for a run of so many steps; 0 = take it as it is
  int rebuild = 1;          // steps from one choice of blocks to the next
  int dense_layers = 0;     // leading layers that always run dense
  bool last_full = false;   // run the last step dense
};

}  // namespace flashomni

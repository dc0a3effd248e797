// SPDX-License-Identifier: Apache-2.0
//
// The denoising loop that every pipeline runs: model evaluations under the engine, guidance, and
// Euler steps along the flow.
#pragma once

#include <functional>
#include <vector>

#include "flashomni/engine.h"
#include "models/tensor.h"

namespace flashomni {

// Progress of a run, after each step.
struct StepProgress {
  int step = 0;  // finished steps
  int steps = 0;
  StepKind kind = StepKind::kFull;
  double seconds = 0;   // of this step
  double sparsity = 0;  // attention sparsity of this step
};
// Returns false to stop; the run then ends with a kCancelled status.
using ProgressCallback = std::function<bool(const StepProgress&)>;

// What a dense run went through in its first steps. A run of the same request whose first steps
// compute the same (RunReport::plain_steps) can take them from here, bit for bit.
struct DenseSteps {
  std::vector<std::vector<float>> latents;  // after each of them
  std::vector<double> seconds;              // that each took
};

struct Denoising {
  Exec exec;
  std::vector<float> sigmas;  // one more than there are steps: the last one is where it ends
  int streams = 1;            // 2 with classifier-free guidance: prompt, then negative prompt
  double guidance = 1;        // v = v_1 + guidance * (v_0 - v_1); unused with one stream
  TensorView input;           // [1, input tokens, channels] f32: what the model sees
  TensorView latents;         // its part that is denoised, in place
  // Queues one evaluation: the velocity of `latents`, into `out` of their shape.
  std::function<Status(int step, int stream, const TensorView& input, const TensorView& out)>
      evaluate;
  const DenseSteps* known = nullptr;  // of the same run without a strategy
  DenseSteps* kept = nullptr;         // gets the first `keep` steps
  int keep = 0;
};

// Runs all steps of a run that the engine has begun, and ends it. Returns the seconds it took, with
// those of known steps.
Result<double> denoise(Backend& backend, Engine& engine, const Denoising& run,
                       const ProgressCallback& progress = {});

}  // namespace flashomni

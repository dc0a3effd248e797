// SPDX-License-Identifier: Apache-2.0
#include "pipelines/denoise.h"

#include <chrono>
#include <string>

namespace flashomni {

Result<double> denoise(Backend& backend, Engine& engine, const Denoising& run,
                       const ProgressCallback& progress) {
  const TensorView& x = run.latents;
  Tensor velocity[2];
  for (int s = 0; s < run.streams; ++s) {
    FO_ASSIGN_OR_RETURN(velocity[s],
                        Tensor::allocate(backend, DType::kF32, {x.size(0), x.size(1), x.size(2)}));
  }
  const int steps = static_cast<int>(run.sigmas.size()) - 1;
  const bool guided = run.streams == 2;
  FO_RETURN_IF_ERROR(backend.synchronize(run.exec));  // set-up is not part of the seconds

  const auto start = std::chrono::steady_clock::now();
  for (int step = 0; step < steps; ++step) {
    FO_RETURN_IF_ERROR(engine.begin_step(step).status());
    for (int s = 0; s < run.streams; ++s) {
      FO_RETURN_IF_ERROR(
          engine.evaluate(s, [&] { return run.evaluate(step, s, run.input, velocity[s]); }));
    }
    backend.set_scope("sampler");
    // x += (sigma' - sigma) * (v_empty + g (v_prompt - v_empty)), in one pass.
    const float dt = run.sigmas[size_t(step) + 1] - run.sigmas[size_t(step)];
    const auto g = static_cast<float>(run.guidance);
    CombineParams euler{.x = x, .y = velocity[0], .out = x};
    euler.b = guided ? dt * g : dt;
    if (guided) {
      euler.z = velocity[1];
      euler.c = dt * (1.f - g);
    }
    FO_RETURN_IF_ERROR(backend.combine(run.exec, euler));
    FO_RETURN_IF_ERROR(engine.end_step());
    if (progress) {
      const StepRecord& r = engine.report().steps.back();
      if (!progress({step + 1, steps, r.kind, r.seconds, r.attention_sparsity()})) {
        return cancelled("stopped after step " + std::to_string(step + 1) + " of " +
                         std::to_string(steps));
      }
    }
  }
  FO_RETURN_IF_ERROR(engine.end_run());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "pipelines/denoise.h"

#include <algorithm>
#include <chrono>
#include <string>

namespace flashomni {

namespace {

// Whether the step that has begun is one of those that are known.
bool is_known(const Denoising& run, const Engine& engine, int step) {
  return run.known &&
         size_t(step) < std::min(run.known->latents.size(), run.known->seconds.size()) &&
         engine.report().plain_steps == step + 1;
}

Status take_step(Backend& backend, Engine& engine, const Denoising& run, int step) {
  const std::vector<float>& latents = run.known->latents[size_t(step)];
  if (latents.size() * sizeof(float) != run.latents.bytes()) {
    return invalid_argument("known latents of " + std::to_string(latents.size()) +
                            " values, wanted those of " + run.latents.to_string());
  }
  FO_RETURN_IF_ERROR(
      backend.upload(run.exec, run.latents.data, latents.data(), run.latents.bytes()));
  return engine.end_known_step(run.known->seconds[size_t(step)]);
}

Status keep_step(Backend& backend, const Engine& engine, const Denoising& run) {
  std::vector<float> latents(run.latents.bytes() / sizeof(float));
  FO_RETURN_IF_ERROR(
      backend.download(run.exec, latents.data(), run.latents.data, run.latents.bytes()));
  run.kept->latents.push_back(std::move(latents));
  run.kept->seconds.push_back(engine.report().steps.back().seconds);
  return ok_status();
}

}  // namespace

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
  double known_seconds = 0;
  const auto report = [&](int step) {
    if (!progress) return ok_status();
    const StepRecord& r = engine.report().steps.back();
    if (progress({step + 1, steps, r.kind, r.seconds, r.attention_sparsity()})) return ok_status();
    return cancelled("stopped after step " + std::to_string(step + 1) + " of " +
                     std::to_string(steps));
  };
  for (int step = 0; step < steps; ++step) {
    FO_RETURN_IF_ERROR(engine.begin_step(step).status());
    if (is_known(run, engine, step)) {
      FO_RETURN_IF_ERROR(take_step(backend, engine, run, step));
      known_seconds += run.known->seconds[size_t(step)];
      FO_RETURN_IF_ERROR(report(step));
      continue;
    }
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
    if (step < run.keep) FO_RETURN_IF_ERROR(keep_step(backend, engine, run));
    FO_RETURN_IF_ERROR(report(step));
  }
  FO_RETURN_IF_ERROR(engine.end_run());
  return known_seconds +
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// FlowMatchEulerDiscreteScheduler of diffusers: the noise levels of a run.
#pragma once

#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

struct FlowMatchEulerConfig {
  double shift = 1.0;
  bool use_dynamic_shifting = false;
  double base_shift = 0.5;
  double max_shift = 1.15;
  int base_image_seq_len = 256;
  int max_image_seq_len = 4096;
};

// Reads scheduler/scheduler_config.json; refuses scheduler classes and options it does not have.
Result<FlowMatchEulerConfig> load_flow_match_euler(const std::string& path);

// steps + 1 noise levels from 1 down to 0: linspace(1, 1/steps) shifted, then 0. A step is
// x += (sigma[i+1] - sigma[i]) * velocity. `image_tokens` matters with dynamic shifting only.
// REQUIRES steps >= 1.
std::vector<float> flow_match_sigmas(const FlowMatchEulerConfig& config, int steps,
                                     int image_tokens);

}  // namespace flashomni

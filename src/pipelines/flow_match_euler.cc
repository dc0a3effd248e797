// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flow_match_euler.h"

#include <cmath>

#include "io/json.h"

namespace flashomni {

Result<FlowMatchEulerConfig> load_flow_match_euler(const std::string& path) {
  FO_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  if (!json.is_object()) return corrupt_file(path + ": not a JSON object");
  JsonFields f(json, path);
  const std::string class_name = f.text("_class_name", "FlowMatchEulerDiscreteScheduler");
  if (class_name != "FlowMatchEulerDiscreteScheduler") {
    return unsupported(path + ": scheduler is " + class_name +
                       ", wanted FlowMatchEulerDiscreteScheduler");
  }
  for (const char* name : {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
                           "invert_sigmas", "stochastic_sampling"}) {
    if (f.boolean(name, false)) {
      return unsupported(path + ": " + name + " is true, which this sampler does not do");
    }
  }
  if (f.has("shift_terminal")) {
    return unsupported(path + ": shift_terminal is set, which this sampler does not do");
  }
  const std::string shift_type = f.text("time_shift_type", "exponential");
  if (shift_type != "exponential") {
    return unsupported(path + ": time_shift_type is " + shift_type + ", wanted exponential");
  }
  FlowMatchEulerConfig c;
  c.shift = f.number("shift", c.shift, 1e-3, 1e3);
  c.use_dynamic_shifting = f.boolean("use_dynamic_shifting", c.use_dynamic_shifting);
  c.base_shift = f.number("base_shift", c.base_shift, -100, 100);
  c.max_shift = f.number("max_shift", c.max_shift, -100, 100);
  c.base_image_seq_len =
      static_cast<int>(f.integer("base_image_seq_len", c.base_image_seq_len, 1, 1 << 24));
  c.max_image_seq_len =
      static_cast<int>(f.integer("max_image_seq_len", c.max_image_seq_len, 1, 1 << 24));
  FO_RETURN_IF_ERROR(f.status());
  if (c.max_image_seq_len == c.base_image_seq_len) {
    return corrupt_file(path + ": max_image_seq_len equals base_image_seq_len");
  }
  return c;
}

std::vector<float> flow_match_sigmas(const FlowMatchEulerConfig& c, int steps, int image_tokens) {
  // Dynamic shifting multiplies the odds of a level by e^mu, static shifting by `shift`.
  double odds = c.shift;
  if (c.use_dynamic_shifting) {
    const double slope =
        (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len);
    odds = std::exp(c.base_shift + slope * (image_tokens - c.base_image_seq_len));
  }
  std::vector<float> out;
  for (int i = 0; i < steps; ++i) {
    const double last = 1.0 / steps;
    const double s = steps == 1 ? 1.0 : 1.0 + (last - 1.0) * i / (steps - 1);
    out.push_back(static_cast<float>(odds * s / (1 + (odds - 1) * s)));
  }
  out.push_back(0.f);
  return out;
}

}  // namespace flashomni

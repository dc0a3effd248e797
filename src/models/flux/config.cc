// SPDX-License-Identifier: Apache-2.0
#include "models/flux/config.h"

#include <numeric>

#include "io/json.h"

namespace flashomni::flux {

Result<FluxConfig> load_flux_config(const std::string& path) {
  FO_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  if (!json.is_object()) return corrupt_file(path + ": not a JSON object");
  JsonFields f(json, path);
  const std::string class_name = f.text("_class_name", "FluxTransformer2DModel");
  if (class_name != "FluxTransformer2DModel") {
    return unsupported(path + ": model class is " + class_name + ", wanted FluxTransformer2DModel");
  }
  if (f.has("quantization_config")) {
    return unsupported(path +
                       ": the checkpoint is quantised (quantization_config); only f32, f16 "
                       "and bf16 weights can be loaded");
  }
  FluxConfig c;
  auto size = [&](const char* name, int fallback, int lowest, int highest) {
    return static_cast<int>(f.integer(name, fallback, lowest, highest));
  };
  c.patch_size = size("patch_size", c.patch_size, 1, 64);
  c.in_channels = size("in_channels", c.in_channels, 1, 1 << 16);
  c.out_channels = size("out_channels", c.in_channels, 1, 1 << 16);
  c.num_layers = size("num_layers", c.num_layers, 0, 1000);
  c.num_single_layers = size("num_single_layers", c.num_single_layers, 0, 1000);
  c.attention_head_dim = size("attention_head_dim", c.attention_head_dim, 2, 1024);
  c.num_attention_heads = size("num_attention_heads", c.num_attention_heads, 1, 1024);
  c.joint_attention_dim = size("joint_attention_dim", c.joint_attention_dim, 1, 1 << 16);
  c.pooled_projection_dim = size("pooled_projection_dim", c.pooled_projection_dim, 1, 1 << 16);
  c.guidance_embeds = f.boolean("guidance_embeds", c.guidance_embeds);
  const std::vector<int64_t> axes = f.integers("axes_dims_rope", {16, 56, 56});
  FO_RETURN_IF_ERROR(f.status());

  if (c.num_layers + c.num_single_layers == 0) {
    return corrupt_file(path + ": num_layers and num_single_layers are both 0");
  }
  if (c.attention_head_dim % 2 != 0) {
    return corrupt_file(path + ": attention_head_dim is " + std::to_string(c.attention_head_dim) +
                        ", wanted an even number");
  }
  c.axes_dims_rope.clear();
  for (int64_t a : axes) {
    if (a < 0 || a > 1024 || a % 2 != 0) {
      return corrupt_file(path + ": axes_dims_rope holds " + std::to_string(a) +
                          ", wanted even numbers up to 1024");
    }
    c.axes_dims_rope.push_back(static_cast<int>(a));
  }
  const int sum = std::accumulate(c.axes_dims_rope.begin(), c.axes_dims_rope.end(), 0);
  if (sum != c.attention_head_dim || c.axes_dims_rope.size() > 3) {
    return corrupt_file(path + ": axes_dims_rope has " + std::to_string(c.axes_dims_rope.size()) +
                        " axes that sum to " + std::to_string(sum) +
                        ", wanted at most 3 that sum to attention_head_dim " +
                        std::to_string(c.attention_head_dim));
  }
  return c;
}

}  // namespace flashomni::flux

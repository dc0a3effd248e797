// SPDX-License-Identifier: Apache-2.0
#include "models/hunyuan_video/config.h"

#include "models/layers/config_file.h"

namespace flashomni::hunyuan_video {

Result<HunyuanVideoConfig> load_hunyuan_video_config(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const nlohmann::json json,
                      read_model_config(path, "HunyuanVideoTransformer3DModel"));
  JsonFields f(json, path);
  HunyuanVideoConfig c;
  auto size = [&](const char* name, int& value, int lowest, int highest) {
    value = static_cast<int>(f.integer(name, value, lowest, highest));
  };
  size("in_channels", c.in_channels, 1, 1 << 12);
  c.out_channels = c.in_channels;
  size("out_channels", c.out_channels, 1, 1 << 12);
  size("num_attention_heads", c.num_attention_heads, 1, 1024);
  size("attention_head_dim", c.attention_head_dim, 2, 1024);
  size("num_layers", c.num_layers, 0, 1000);
  size("num_single_layers", c.num_single_layers, 0, 1000);
  size("num_refiner_layers", c.num_refiner_layers, 0, 100);
  c.mlp_ratio = f.number("mlp_ratio", c.mlp_ratio, 0.01, 64);
  size("patch_size", c.patch_size, 1, 64);
  size("patch_size_t", c.patch_size_t, 1, 64);
  c.guidance_embeds = f.boolean("guidance_embeds", c.guidance_embeds);
  size("text_embed_dim", c.text_embed_dim, 1, 1 << 16);
  size("pooled_projection_dim", c.pooled_projection_dim, 1, 1 << 16);
  c.rope_theta = f.number("rope_theta", c.rope_theta, 1, 1e9);
  const std::vector<int64_t> axes = f.integers("rope_axes_dim", {16, 56, 56});
  const std::string qk_norm = f.text("qk_norm", "rms_norm");
  const std::string image = f.text("image_condition_type", "");
  FO_RETURN_IF_ERROR(f.status());

  if (!image.empty()) {
    return unsupported(path + ": image_condition_type is " + image +
                       ", wanted null (text-to-video)");
  }
  if (qk_norm != "rms_norm") {
    return unsupported(path + ": qk_norm is " + qk_norm + ", wanted rms_norm");
  }
  if (c.num_layers + c.num_single_layers == 0) {
    return corrupt_file(path + ": num_layers and num_single_layers are both 0");
  }
  if (c.mlp_width() < 1) {
    return corrupt_file(path + ": mlp_ratio gives an MLP of " + std::to_string(c.mlp_width()) +
                        " features, wanted at least 1");
  }
  FO_ASSIGN_OR_RETURN(c.rope_axes_dim,
                      check_rope_axes(axes, c.attention_head_dim, path, "rope_axes_dim"));
  return c;
}

}  // namespace flashomni::hunyuan_video

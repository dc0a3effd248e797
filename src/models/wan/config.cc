// SPDX-License-Identifier: Apache-2.0
#include "models/wan/config.h"

#include "models/layers/config_file.h"

namespace flashomni::wan {

Result<WanConfig> load_wan_config(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const nlohmann::json json, read_model_config(path, "WanTransformer3DModel"));
  JsonFields f(json, path);
  WanConfig c;
  auto size = [&](const char* name, int& value, int lowest, int highest) {
    value = static_cast<int>(f.integer(name, value, lowest, highest));
  };
  const std::vector<int64_t> patch = f.integers("patch_size", {1, 2, 2});
  size("num_attention_heads", c.num_attention_heads, 1, 1024);
  size("attention_head_dim", c.attention_head_dim, 2, 1024);
  size("in_channels", c.in_channels, 1, 1 << 12);
  c.out_channels = c.in_channels;
  size("out_channels", c.out_channels, 1, 1 << 12);
  size("text_dim", c.text_dim, 1, 1 << 16);
  size("freq_dim", c.freq_dim, 2, 1 << 16);
  size("ffn_dim", c.ffn_dim, 1, 1 << 20);
  size("num_layers", c.num_layers, 1, 1000);
  c.cross_attn_norm = f.boolean("cross_attn_norm", c.cross_attn_norm);
  c.eps = f.number("eps", c.eps, 0, 1);
  size("rope_max_seq_len", c.rope_max_seq_len, 1, 1 << 20);
  const std::string qk_norm = f.text("qk_norm", "rms_norm_across_heads");
  FO_RETURN_IF_ERROR(f.status());

  for (const char* field : {"image_dim", "added_kv_proj_dim", "pos_embed_seq_len"}) {
    if (f.has(field)) {
      return unsupported(path + ": " + field + " is " + json[field].dump() +
                         ", wanted null (text-to-video)");
    }
  }
  if (qk_norm != "rms_norm_across_heads") {
    return unsupported(path + ": qk_norm is " + qk_norm + ", wanted rms_norm_across_heads");
  }
  if (c.freq_dim % 2 != 0 || c.attention_head_dim % 2 != 0) {
    const bool freq = c.freq_dim % 2 != 0;
    return corrupt_file(path + ": " + (freq ? "freq_dim is " : "attention_head_dim is ") +
                        std::to_string(freq ? c.freq_dim : c.attention_head_dim) +
                        ", wanted an even number");
  }
  if (patch.size() != 3) {
    return corrupt_file(path + ": patch_size has " + std::to_string(patch.size()) +
                        " entries, wanted 3 (frames, rows, columns)");
  }
  for (int64_t p : patch) {
    if (p < 1 || p > 64) {
      return corrupt_file(path + ": patch_size holds " + std::to_string(p) + ", wanted 1 to 64");
    }
  }
  c.patch = {int(patch[0]), int(patch[1]), int(patch[2])};
  return c;
}

}  // namespace flashomni::wan

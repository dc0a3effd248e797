// SPDX-License-Identifier: Apache-2.0
#include "models/layers/joint_weights.h"

namespace flashomni {
namespace {

constexpr int kTimestepChannels = 256;

// The names of one stream inside a double block.
struct StreamNames {
  const char *modulation, *q, *k, *v, *norm_q, *norm_k, *out, *ff;
};
constexpr StreamNames kLatents = {"norm1.linear", "attn.to_q",   "attn.to_k",     "attn.to_v",
                                  "attn.norm_q",  "attn.norm_k", "attn.to_out.0", "ff"};
constexpr StreamNames kText = {"norm1_context.linear", "attn.add_q_proj",   "attn.add_k_proj",
                               "attn.add_v_proj",      "attn.norm_added_q", "attn.norm_added_k",
                               "attn.to_add_out",      "ff_context"};

Result<StreamWeights> load_stream(const JointConfig& c, WeightLoader& loader,
                                  const std::string& prefix, const StreamNames& names) {
  const int64_t d = c.width();
  const int hd = c.head_dim;
  StreamWeights w;
  FO_ASSIGN_OR_RETURN(w.modulation, loader.linear(prefix + names.modulation, 6 * d, d));
  StreamAttention& a = w.attention;
  FO_ASSIGN_OR_RETURN(a.q, loader.linear(prefix + names.q, d, d, hd));
  FO_ASSIGN_OR_RETURN(a.k, loader.linear(prefix + names.k, d, d, hd));
  FO_ASSIGN_OR_RETURN(a.v, loader.linear(prefix + names.v, d, d, hd));
  FO_ASSIGN_OR_RETURN(a.norm_q, loader.vector(prefix + names.norm_q + ".weight", hd));
  FO_ASSIGN_OR_RETURN(a.norm_k, loader.vector(prefix + names.norm_k + ".weight", hd));
  FO_ASSIGN_OR_RETURN(a.out, loader.linear(prefix + names.out, d, d));
  const std::string ff = prefix + names.ff;
  FO_ASSIGN_OR_RETURN(w.ff_in, loader.linear(ff + ".net.0.proj", c.mlp_width, d));
  FO_ASSIGN_OR_RETURN(w.ff_out, loader.linear(ff + ".net.2", d, c.mlp_width));
  return w;
}

Result<SingleBlockWeights> load_single(const JointConfig& c, WeightLoader& loader,
                                       const std::string& prefix) {
  const int64_t d = c.width();
  const int hd = c.head_dim;
  SingleBlockWeights w;
  FO_ASSIGN_OR_RETURN(w.modulation, loader.linear(prefix + "norm.linear", 3 * d, d));
  FO_ASSIGN_OR_RETURN(w.q, loader.linear(prefix + "attn.to_q", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.k, loader.linear(prefix + "attn.to_k", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.v, loader.linear(prefix + "attn.to_v", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.norm_q, loader.vector(prefix + "attn.norm_q.weight", hd));
  FO_ASSIGN_OR_RETURN(w.norm_k, loader.vector(prefix + "attn.norm_k.weight", hd));
  FO_ASSIGN_OR_RETURN(w.mlp, loader.linear(prefix + "proj_mlp", c.mlp_width, d));
  FO_ASSIGN_OR_RETURN(w.out, loader.linear(prefix + "proj_out", d, d + c.mlp_width));
  return w;
}

}  // namespace

Result<JointWeights> load_joint_weights(const JointConfig& c, WeightLoader& loader) {
  const int64_t d = c.width();
  const std::string embed = "time_text_embed.";
  JointWeights w;
  FO_ASSIGN_OR_RETURN(w.timestep,
                      load_embedder(loader, embed + "timestep_embedder", kTimestepChannels, d));
  if (c.guidance) {
    FO_ASSIGN_OR_RETURN(w.guidance,
                        load_embedder(loader, embed + "guidance_embedder", kTimestepChannels, d));
  }
  FO_ASSIGN_OR_RETURN(w.pooled, load_embedder(loader, embed + "text_embedder", c.pooled_width, d));
  for (int i = 0; i < c.double_layers; ++i) {
    const std::string prefix = "transformer_blocks." + std::to_string(i) + ".";
    DoubleBlockWeights b;
    FO_ASSIGN_OR_RETURN(b.latents, load_stream(c, loader, prefix, kLatents));
    FO_ASSIGN_OR_RETURN(b.text, load_stream(c, loader, prefix, kText));
    w.double_blocks.push_back(std::move(b));
  }
  for (int i = 0; i < c.single_layers; ++i) {
    const std::string prefix = "single_transformer_blocks." + std::to_string(i) + ".";
    FO_ASSIGN_OR_RETURN(SingleBlockWeights b, load_single(c, loader, prefix));
    w.single_blocks.push_back(std::move(b));
  }
  FO_ASSIGN_OR_RETURN(w.norm_out, loader.linear("norm_out.linear", 2 * d, d));
  FO_ASSIGN_OR_RETURN(w.proj_out, loader.linear("proj_out", c.out_width, d));
  return w;
}

}  // namespace flashomni

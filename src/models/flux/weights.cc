// SPDX-License-Identifier: Apache-2.0
#include "models/flux/weights.h"

namespace flashomni::flux {
namespace {

// The names of one stream inside a double block.
struct StreamNames {
  const char *modulation, *q, *k, *v, *norm_q, *norm_k, *out, *ff;
};
constexpr StreamNames kImage = {"norm1.linear", "attn.to_q",   "attn.to_k",     "attn.to_v",
                                "attn.norm_q",  "attn.norm_k", "attn.to_out.0", "ff"};
constexpr StreamNames kText = {"norm1_context.linear", "attn.add_q_proj",   "attn.add_k_proj",
                               "attn.add_v_proj",      "attn.norm_added_q", "attn.norm_added_k",
                               "attn.to_add_out",      "ff_context"};

Result<StreamWeights> load_stream(const FluxConfig& c, WeightLoader& loader,
                                  const std::string& prefix, const StreamNames& names) {
  const int64_t d = c.width();
  const int hd = c.attention_head_dim;
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
  FO_ASSIGN_OR_RETURN(w.ff_in, loader.linear(ff + ".net.0.proj", c.mlp_width(), d));
  FO_ASSIGN_OR_RETURN(w.ff_out, loader.linear(ff + ".net.2", d, c.mlp_width()));
  return w;
}

Result<SingleBlockWeights> load_single(const FluxConfig& c, WeightLoader& loader,
                                       const std::string& prefix) {
  const int64_t d = c.width();
  const int hd = c.attention_head_dim;
  SingleBlockWeights w;
  FO_ASSIGN_OR_RETURN(w.modulation, loader.linear(prefix + "norm.linear", 3 * d, d));
  FO_ASSIGN_OR_RETURN(w.q, loader.linear(prefix + "attn.to_q", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.k, loader.linear(prefix + "attn.to_k", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.v, loader.linear(prefix + "attn.to_v", d, d, hd));
  FO_ASSIGN_OR_RETURN(w.norm_q, loader.vector(prefix + "attn.norm_q.weight", hd));
  FO_ASSIGN_OR_RETURN(w.norm_k, loader.vector(prefix + "attn.norm_k.weight", hd));
  FO_ASSIGN_OR_RETURN(w.mlp, loader.linear(prefix + "proj_mlp", c.mlp_width(), d));
  FO_ASSIGN_OR_RETURN(w.out, loader.linear(prefix + "proj_out", d, d + c.mlp_width()));
  return w;
}

Result<EmbedderWeights> load_embedder(WeightLoader& loader, const std::string& prefix, int64_t in,
                                      int64_t out) {
  EmbedderWeights w;
  FO_ASSIGN_OR_RETURN(w.linear_1, loader.linear(prefix + ".linear_1", out, in));
  FO_ASSIGN_OR_RETURN(w.linear_2, loader.linear(prefix + ".linear_2", out, out));
  return w;
}

}  // namespace

Result<FluxWeights> load_flux_weights(const FluxConfig& c, WeightLoader& loader) {
  const int64_t d = c.width();
  FluxWeights w;
  FO_ASSIGN_OR_RETURN(w.x_embedder, loader.linear("x_embedder", d, c.in_channels));
  FO_ASSIGN_OR_RETURN(w.context_embedder,
                      loader.linear("context_embedder", d, c.joint_attention_dim));
  const std::string embed = "time_text_embed.";
  FO_ASSIGN_OR_RETURN(w.timestep, load_embedder(loader, embed + "timestep_embedder", 256, d));
  if (c.guidance_embeds) {
    FO_ASSIGN_OR_RETURN(w.guidance, load_embedder(loader, embed + "guidance_embedder", 256, d));
  }
  FO_ASSIGN_OR_RETURN(w.pooled,
                      load_embedder(loader, embed + "text_embedder", c.pooled_projection_dim, d));
  for (int i = 0; i < c.num_layers; ++i) {
    const std::string prefix = "transformer_blocks." + std::to_string(i) + ".";
    DoubleBlockWeights b;
    FO_ASSIGN_OR_RETURN(b.image, load_stream(c, loader, prefix, kImage));
    FO_ASSIGN_OR_RETURN(b.text, load_stream(c, loader, prefix, kText));
    w.double_blocks.push_back(std::move(b));
  }
  for (int i = 0; i < c.num_single_layers; ++i) {
    const std::string prefix = "single_transformer_blocks." + std::to_string(i) + ".";
    FO_ASSIGN_OR_RETURN(SingleBlockWeights b, load_single(c, loader, prefix));
    w.single_blocks.push_back(std::move(b));
  }
  FO_ASSIGN_OR_RETURN(w.norm_out, loader.linear("norm_out.linear", 2 * d, d));
  FO_ASSIGN_OR_RETURN(w.proj_out, loader.linear("proj_out", c.output_width(), d));
  return w;
}

}  // namespace flashomni::flux

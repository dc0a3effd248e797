// SPDX-License-Identifier: Apache-2.0
#include "models/wan/weights.h"

namespace flashomni::wan {
namespace {

Result<AttentionWeights> load_attention(const WanConfig& c, WeightLoader& loader,
                                        const std::string& prefix) {
  const int64_t d = c.width();
  const int hd = c.attention_head_dim;
  AttentionWeights a;
  FO_ASSIGN_OR_RETURN(a.q, loader.linear(prefix + "to_q", d, d, hd));
  FO_ASSIGN_OR_RETURN(a.k, loader.linear(prefix + "to_k", d, d, hd));
  FO_ASSIGN_OR_RETURN(a.v, loader.linear(prefix + "to_v", d, d, hd));
  FO_ASSIGN_OR_RETURN(a.norm_q, loader.vector(prefix + "norm_q.weight", d));
  FO_ASSIGN_OR_RETURN(a.norm_k, loader.vector(prefix + "norm_k.weight", d));
  FO_ASSIGN_OR_RETURN(a.out, loader.linear(prefix + "to_out.0", d, d));
  return a;
}

Result<BlockWeights> load_block(const WanConfig& c, Backend& backend, WeightLoader& loader,
                                const std::string& prefix) {
  const int64_t d = c.width();
  BlockWeights b;
  FO_ASSIGN_OR_RETURN(b.self, load_attention(c, loader, prefix + "attn1."));
  FO_ASSIGN_OR_RETURN(b.cross, load_attention(c, loader, prefix + "attn2."));
  if (c.cross_attn_norm) {
    FO_ASSIGN_OR_RETURN(b.cross_norm, load_affine_norm(backend, loader, prefix + "norm2", d));
  }
  FO_ASSIGN_OR_RETURN(b.ff_in, loader.linear(prefix + "ffn.net.0.proj", c.ffn_dim, d));
  FO_ASSIGN_OR_RETURN(b.ff_out, loader.linear(prefix + "ffn.net.2", d, c.ffn_dim));
  FO_ASSIGN_OR_RETURN(const std::vector<float> table,
                      loader.host(prefix + "scale_shift_table", {1, 6, d}));
  FO_ASSIGN_OR_RETURN(b.table, Tensor::upload(backend, table, {1, 6 * d}));
  return b;
}

// Row r of the output projection is feature (channel, patch position), as input tokens have it; the
// checkpoint stores (patch position, channel).
std::vector<int64_t> channel_first_rows(const WanConfig& c) {
  std::vector<int64_t> rows;
  for (int64_t channel = 0; channel < c.out_channels; ++channel) {
    for (int64_t p = 0; p < c.patch_values(); ++p) rows.push_back(p * c.out_channels + channel);
  }
  return rows;
}

}  // namespace

Result<WanWeights> load_wan_weights(const WanConfig& c, Backend& backend, WeightLoader& loader) {
  const int64_t d = c.width();
  WanWeights w;
  FO_ASSIGN_OR_RETURN(w.patch_embedding, loader.linear("patch_embedding", d, c.input_width(), 0,
                                                       {d, c.in_channels, c.patch.frames,
                                                        c.patch.height, c.patch.width}));
  const std::string root = "condition_embedder.";
  FO_ASSIGN_OR_RETURN(w.time, load_embedder(loader, root + "time_embedder", c.freq_dim, d));
  FO_ASSIGN_OR_RETURN(w.time_proj, loader.linear(root + "time_proj", 6 * d, d));
  FO_ASSIGN_OR_RETURN(w.text, load_embedder(loader, root + "text_embedder", c.text_dim, d));
  for (int i = 0; i < c.num_layers; ++i) {
    FO_ASSIGN_OR_RETURN(BlockWeights b,
                        load_block(c, backend, loader, "blocks." + std::to_string(i) + "."));
    w.blocks.push_back(std::move(b));
  }
  FO_ASSIGN_OR_RETURN(w.table, loader.host("scale_shift_table", {1, 2, d}));
  FO_ASSIGN_OR_RETURN(w.proj_out, loader.linear_rows("proj_out", d, channel_first_rows(c)));
  return w;
}

}  // namespace flashomni::wan

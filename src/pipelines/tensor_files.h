// SPDX-License-Identifier: Apache-2.0
//
// Conditioning and latents as safetensors files, for models whose text encoders or decoder do not
// run here (docs/checkpoints.md has the names and shapes). Names are those of diffusers' pipelines.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "flashomni/status.h"
#include "models/layers/patches.h"

namespace flashomni {

// One prompt as text encoders leave it.
struct PromptEmbeddings {
  int tokens = 0;
  int width = 0;
  std::vector<float> states;  // [tokens, width]
  std::vector<float> pooled;  // [pooled width]; empty: none
  std::vector<uint8_t> mask;  // [tokens], 1 for valid tokens; empty: all are
};

struct EmbeddingsFile {
  PromptEmbeddings prompt;
  std::optional<PromptEmbeddings> negative;  // of the second guidance stream
  std::map<std::string, std::string> metadata;
};

// Reads `prompt_embeds` [N, C] or [1, N, C], and where they are there `pooled_prompt_embeds` [P] or
// [1, P], `prompt_attention_mask` [N] or [1, N] of any number type, and the same with `negative_`
// in front. kCorruptFile by name for another tensor, shape or batch, and for values that are not
// finite; and all that SafetensorsFile::open refuses.
Result<EmbeddingsFile> load_embeddings(const std::string& path);
// Writes what load_embeddings reads, in f32.
Status save_embeddings(const std::string& path, const EmbeddingsFile& file);

// Reads the tensor `name` of a file of latents as tokens [tokens, channels * patch]: from [1, C, h,
// w], [1, C, F, h, w] or packed [1, tokens, channels * patch]. kCorruptFile for another shape than
// `shape` and `patch` imply, for an absent tensor and for values that are not finite.
Result<std::vector<float>> load_latents(const std::string& path, const std::string& name,
                                        const LatentShape& shape, const PatchSize& patch);
// Writes tokens as the tensor `latents` [1, C, h, w], or [1, C, F, h, w] with `video`, in f32.
Status save_latents(const std::string& path, std::span<const float> tokens,
                    const LatentShape& shape, const PatchSize& patch, bool video,
                    const std::map<std::string, std::string>& metadata);

}  // namespace flashomni

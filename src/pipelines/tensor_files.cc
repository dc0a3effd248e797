// SPDX-License-Identifier: Apache-2.0
#include "pipelines/tensor_files.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "io/messages.h"
#include "io/safetensors.h"

namespace flashomni {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

Status in_file(const std::string& path, const Status& status) {
  return status.ok() ? status : Status(status.code(), path + ": " + status.message());
}

Result<std::vector<float>> finite_values(const TensorEntry& entry, const std::string& path) {
  auto values = to_f32(entry);
  if (!values.ok()) return in_file(path, values.status());
  for (size_t i = 0; i < values->size(); ++i) {
    if (!std::isfinite((*values)[i])) {
      return corrupt_file(path + ": tensor " + entry.to_string() +
                          " holds a NaN or infinity at element " + std::to_string(i));
    }
  }
  return values;
}

// The shape without a batch of one in front; empty where it has another rank or batch.
std::vector<int64_t> without_batch(const std::vector<int64_t>& shape, size_t rank) {
  if (shape.size() == rank) return shape;
  if (shape.size() != rank + 1 || shape[0] != 1) return {};
  return {shape.begin() + 1, shape.end()};
}

// Values that stand for true and false, of any number type.
Result<std::vector<uint8_t>> truth_values(const TensorEntry& entry, const std::string& path) {
  const auto size = static_cast<size_t>(stored_dtype_bits(entry.dtype)) / 8;
  auto bytes = read_tensor(entry);
  if (!bytes.ok()) return in_file(path, bytes.status());
  std::vector<uint8_t> out(static_cast<size_t>(entry.numel()));
  for (size_t i = 0; i < out.size() && size > 0; ++i) {
    const auto first = bytes->begin() + static_cast<ptrdiff_t>(i * size);
    out[i] = std::any_of(first, first + static_cast<ptrdiff_t>(size), [](uint8_t b) { return b; });
  }
  return out;
}

class Reader {
 public:
  Reader(const SafetensorsFile& file) : file_(file) {}  // NOLINT

  Result<PromptEmbeddings> prompt(const std::string& prefix) {
    PromptEmbeddings p;
    const std::string name = prefix + "prompt_embeds";
    const TensorEntry* states = file_.find(name);
    if (states == nullptr) {
      return corrupt_file(file_.path() + ": has no tensor " + quote(name) +
                          ", wanted [tokens, width]");
    }
    FO_ASSIGN_OR_RETURN(const auto shape, taken(*states, 2, "[tokens, width]"));
    if (shape[0] < 1 || shape[1] < 1 || shape[0] > kMaxTokens || shape[1] > kMaxTokens) {
      return corrupt_file(file_.path() + ": tensor " + states->to_string() + " has no usable size");
    }
    p.tokens = static_cast<int>(shape[0]);
    p.width = static_cast<int>(shape[1]);
    FO_ASSIGN_OR_RETURN(p.states, finite_values(*states, file_.path()));
    if (const TensorEntry* pooled = file_.find(prefix + "pooled_prompt_embeds")) {
      FO_RETURN_IF_ERROR(taken(*pooled, 1, "[width]").status());
      FO_ASSIGN_OR_RETURN(p.pooled, finite_values(*pooled, file_.path()));
    }
    if (const TensorEntry* mask = file_.find(prefix + "prompt_attention_mask")) {
      FO_ASSIGN_OR_RETURN(const auto size, taken(*mask, 1, "[tokens]"));
      if (size[0] != shape[0]) {
        return corrupt_file(file_.path() + ": tensor " + mask->to_string() + " is for " +
                            std::to_string(size[0]) + " tokens, " + quote(name) + " has " +
                            std::to_string(shape[0]));
      }
      FO_ASSIGN_OR_RETURN(p.mask, truth_values(*mask, file_.path()));
    }
    return p;
  }

  // A tensor that no one asked for is a mistake in a file this small.
  Status check_all_taken() const {
    for (const TensorEntry& t : file_.tensors()) {
      if (std::find(taken_.begin(), taken_.end(), t.name) != taken_.end()) continue;
      return corrupt_file(file_.path() + ": tensor " + t.to_string() +
                          " is not known here, wanted prompt_embeds, pooled_prompt_embeds, "
                          "prompt_attention_mask and the same with negative_ in front");
    }
    return ok_status();
  }

 private:
  Result<std::vector<int64_t>> taken(const TensorEntry& entry, size_t rank, const char* wanted) {
    taken_.push_back(entry.name);
    std::vector<int64_t> shape = without_batch(entry.shape, rank);
    if (shape.empty()) {
      return corrupt_file(file_.path() + ": tensor " + entry.to_string() + " is no " + wanted +
                          " (a batch of 1 may be in front)");
    }
    return shape;
  }

  const SafetensorsFile& file_;
  std::vector<std::string> taken_;
};

TensorToWrite f32_tensor(std::string name, std::vector<int64_t> shape,
                         std::span<const float> values) {
  return {.name = std::move(name),
          .dtype = StoredDType::kF32,
          .shape = std::move(shape),
          .data = {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()}};
}

}  // namespace

Result<EmbeddingsFile> load_embeddings(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::open(path));
  EmbeddingsFile out;
  Reader reader(file);
  FO_ASSIGN_OR_RETURN(out.prompt, reader.prompt(""));
  if (file.find("negative_prompt_embeds") != nullptr) {
    FO_ASSIGN_OR_RETURN(out.negative, reader.prompt("negative_"));
  }
  FO_RETURN_IF_ERROR(reader.check_all_taken());
  out.metadata = file.metadata();
  return out;
}

Status save_embeddings(const std::string& path, const EmbeddingsFile& file) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& prefix, const PromptEmbeddings& p) {
    tensors.push_back(f32_tensor(prefix + "prompt_embeds", {1, p.tokens, p.width}, p.states));
    if (!p.pooled.empty()) {
      tensors.push_back(f32_tensor(prefix + "pooled_prompt_embeds",
                                   {1, static_cast<int64_t>(p.pooled.size())}, p.pooled));
    }
    if (!p.mask.empty()) {
      tensors.push_back({.name = prefix + "prompt_attention_mask",
                         .dtype = StoredDType::kU8,
                         .shape = {1, p.tokens},
                         .data = p.mask});
    }
  };
  add("", file.prompt);
  if (file.negative) add("negative_", *file.negative);
  return write_safetensors(path, tensors, file.metadata);
}

Result<std::vector<float>> load_latents(const std::string& path, const std::string& name,
                                        const LatentShape& shape, const PatchSize& patch) {
  FO_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::open(path));
  const TensorEntry* entry = file.find(name);
  if (entry == nullptr) return corrupt_file(path + ": has no tensor " + quote(name));
  const int64_t per_token = int64_t{shape.channels} * patch.frames * patch.height * patch.width;
  const std::vector<int64_t> packed = {1, shape.values() / per_token, per_token};
  const std::vector<int64_t> video = {1, shape.channels, shape.frames, shape.height, shape.width};
  const std::vector<int64_t> image = {1, shape.channels, shape.height, shape.width};
  const bool is_packed = entry->shape == packed;
  if (!is_packed && entry->shape != video && (shape.frames != 1 || entry->shape != image)) {
    return corrupt_file(path + ": tensor " + entry->to_string() +
                        " does not fit this run, wanted " +
                        (shape.frames == 1 ? shape_text(image) + ", " : "") + shape_text(video) +
                        " or, packed, " + shape_text(packed));
  }
  FO_ASSIGN_OR_RETURN(std::vector<float> values, finite_values(*entry, path));
  if (is_packed) return values;
  return latents_to_tokens(values, shape, patch);
}

Status save_latents(const std::string& path, std::span<const float> tokens,
                    const LatentShape& shape, const PatchSize& patch, bool video,
                    const std::map<std::string, std::string>& metadata) {
  FO_ASSIGN_OR_RETURN(const std::vector<float> latents, tokens_to_latents(tokens, shape, patch));
  std::vector<int64_t> dims = {1, shape.channels, shape.height, shape.width};
  if (video) dims.insert(dims.begin() + 2, shape.frames);
  const std::array tensors = {f32_tensor("latents", dims, latents)};
  return write_safetensors(path, tensors, metadata);
}

}  // namespace flashomni

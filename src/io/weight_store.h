// SPDX-License-Identifier: Apache-2.0
//
// All tensors of one model component, from a single safetensors file or from a sharded folder with
// its index (the layouts that diffusers and transformers save).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"
#include "io/safetensors.h"

namespace flashomni {

class WeightStore {
 public:
  // `path` is, in order of what it turns out to be:
  //   a .safetensors file;
  //   an index file (*.json);
  //   a folder, with <stem> one of diffusion_pytorch_model, model and <v> the variant, if any:
  //     <stem>.safetensors.index[.<v>].json, then <stem>[.<v>].safetensors.
  // kNotFound lists what was looked for. kCorruptFile for an index whose weight_map is not an
  // object of tensor name to plain file name, for a shard or mapped tensor that is missing, for a
  // tensor in two shards, and for everything SafetensorsFile::open refuses.
  static Result<WeightStore> open(const std::string& path, const std::string& variant = "");

  // nullptr if there is none.
  const TensorEntry* find(std::string_view name) const;
  std::span<const TensorEntry* const> tensors() const { return tensors_; }  // sorted by name
  uint64_t total_bytes() const;
  std::span<const SafetensorsFile> files() const { return files_; }
  // Oddities that do not stop a load: tensors that the index does not list, a wrong total_size.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  static Result<WeightStore> open_file(const std::string& path);
  static Result<WeightStore> open_index(const std::string& path);
  Status collect();

  std::vector<SafetensorsFile> files_;
  std::vector<const TensorEntry*> tensors_;
  std::vector<std::string> warnings_;
};

}  // namespace flashomni

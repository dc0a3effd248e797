// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a file with symbols of another kernel, whichever container holds them: safetensors
// or NumPy's .npz.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "io/safetensors.h"

namespace flashomni {

class SymbolsSource {
 public:
  // Told apart by the first bytes.
  static Result<SymbolsSource> open(const std::string& path);

  const std::string& path() const { return path_; }
  // nullptr if there is none.
  const TensorEntry* find(std::string_view name) const;
  // Of safetensors its metadata; of .npz its scalars (an array of no axes and whole numbers).
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Names and types of arrays that are in the file but cannot be read.
  const std::map<std::string, std::string>& others() const { return others_; }

 private:
  std::string path_;
  std::shared_ptr<const void> file_;  // what the tensors live in
  std::span<const TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::string> others_;
};

// The values of a tensor of bool or whole numbers; kCorruptFile with `path` for other types.
Result<std::vector<int64_t>> whole_numbers(const TensorEntry& entry, const std::string& path);

// Writes `tensors` as .npz where the name of `path` ends so, else as safetensors. Numbers among the
// metadata become scalars in .npz, the rest is left out there.
Status write_symbols_source(const std::string& path, std::span<const TensorToWrite> tensors,
                            const std::map<std::string, std::string>& metadata);

}  // namespace flashomni

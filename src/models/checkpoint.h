// SPDX-License-Identifier: Apache-2.0
//
// Whether the weights of a checkpoint folder are those of a model: told from config.json and the
// files' headers, before anything is loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/weight_store.h"
#include "models/weights.h"

namespace flashomni {

// How a checkpoint differs from what a model loads; names only, data is not read.
struct CheckpointProblems {
  static constexpr size_t kListed = 10;  // names of each kind in one message

  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> misshaped;    // "x_embedder.weight [32,4], wanted [32,6]"
  std::vector<std::string> unsupported;  // "x_embedder.weight I8", of a type that is not loaded

  // Whether the model can be loaded: tensors that nothing asks for are only left out.
  bool loads() const { return missing.empty() && misshaped.empty() && unsupported.empty(); }
  // "12 missing (a, b, c and 9 more), 1 of another shape (d [1], wanted [2])", with the first
  // `most` names of each kind; empty if nothing is wrong.
  std::string text(size_t most = kListed) const;
  // kCorruptFile with all of text(), unless the model loads.
  Status status(const std::string& folder, size_t most = kListed) const;
};
CheckpointProblems check_checkpoint(const std::vector<Parameter>& wanted, const WeightStore& store);

// "a, b and 9 more" of names out of a file, made safe to print.
std::string few_names(const std::vector<std::string>& names, size_t most);

// The parameters that a model asks a loader for.
template <class Model, class Config>
Result<std::vector<Parameter>> parameters_of(Backend& backend, const Config& config) {
  std::vector<Parameter> list;
  WeightLoader loader(backend, list);
  FO_RETURN_IF_ERROR(Model::make(backend, config, loader).status());
  return list;
}

// A model with the weights of a folder. What is wrong with any of them is told at once, and before
// the first is loaded.
template <class Model, class Config>
Result<std::unique_ptr<Model>> load_checkpoint(Backend& backend, const Config& config,
                                               const std::string& folder) {
  FO_ASSIGN_OR_RETURN(const WeightStore store, WeightStore::open(folder));
  FO_ASSIGN_OR_RETURN(const std::vector<Parameter> wanted, parameters_of<Model>(backend, config));
  FO_RETURN_IF_ERROR(check_checkpoint(wanted, store).status(folder));
  WeightLoader loader(backend, store);
  return Model::make(backend, config, loader);
}

}  // namespace flashomni

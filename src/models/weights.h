// SPDX-License-Identifier: Apache-2.0
//
// Takes tensors out of a checkpoint by name, checks shape and values, and hands them to a backend.
// It remembers what was taken, so that loading can end with a word on what was left over.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/weight_store.h"
#include "models/random_weights.h"
#include "models/tensor.h"

namespace flashomni {

using Weight = std::shared_ptr<const PackedWeight>;

// Name and shape of one tensor of a checkpoint.
struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t numel() const;
};

class WeightLoader {
 public:
  WeightLoader(Backend& backend, const WeightStore& store) : backend_(backend), store_(&store) {}
  // Random weights under every name that is asked for.
  WeightLoader(Backend& backend, uint64_t seed)
      : backend_(backend), random_(std::make_unique<RandomWeights>(seed)) {}
  // Loads nothing (weights are null, values 0) and notes what is asked for, so that the parameters
  // of a model follow from its config by the very code that loads them.
  WeightLoader(Backend& backend, std::vector<Parameter>& list) : backend_(backend), list_(&list) {}

  // `<name>.weight` [out, in] and `<name>.bias` [out], in the backend's activation dtype where that
  // has 16 bits. out_head_dim: see WeightDesc. A convolution whose stride is its kernel is a Linear
  // over flattened patches: `stored` is then its weight's shape [out, channels, kernel...].
  Result<Weight> linear(const std::string& name, int64_t out, int64_t in, int out_head_dim = 0,
                        const std::vector<int64_t>& stored = {});
  // The same for a small layer whose output features are wanted in another order: feature i is the
  // stored feature rows[i].
  Result<Weight> linear_rows(const std::string& name, int64_t in, const std::vector<int64_t>& rows);
  // A 1-D parameter as f32.
  Result<Tensor> vector(const std::string& name, int64_t size);
  // A parameter of any shape as f32 host values.
  Result<std::vector<float>> host(const std::string& name, const std::vector<int64_t>& shape);

  // Tensors of the checkpoint that nothing asked for.
  std::vector<std::string> unused() const;
  size_t packed_bytes() const { return packed_bytes_; }
  int64_t parameters() const { return parameters_; }

 private:
  // A tensor and its values, which entry.data points at.
  struct Taken {
    TensorEntry entry;
    std::vector<uint8_t> values;
  };
  Result<Taken> take(const std::string& name, const std::vector<int64_t>& shape);

  Backend& backend_;
  const WeightStore* store_ = nullptr;
  std::unique_ptr<RandomWeights> random_;
  std::vector<Parameter>* list_ = nullptr;
  std::set<std::string> taken_;
  size_t packed_bytes_ = 0;
  int64_t parameters_ = 0;
};

}  // namespace flashomni

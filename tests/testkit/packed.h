// SPDX-License-Identifier: Apache-2.0
//
// A Linear layer for an operation: the values the truth uses and the weight as the backend packed
// them. The tensors that were packed are gone by the time the weight is used.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "flashomni/backend.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guard_buffer.h"

namespace flashomni::testkit {

struct LayerValues {
  int out_features = 0;
  int in_features = 0;
  DType dtype = DType::kF32;
  std::vector<double> weight;  // [out, in], exactly representable in dtype
  std::vector<double> bias;    // [out] or empty
};

inline LayerValues make_layer(Rng& rng, int out_features, int in_features, DType dtype,
                              bool with_bias) {
  LayerValues layer{out_features, in_features, dtype, {}, {}};
  const int64_t weights = int64_t{1} * out_features * in_features;
  layer.weight = rounded_to(dtype, normal_values(rng, weights, 1 / std::sqrt(in_features)));
  if (with_bias) layer.bias = rounded_to(dtype, normal_values(rng, out_features));
  return layer;
}

inline std::shared_ptr<const PackedWeight> pack(Backend& backend, const LayerValues& layer,
                                                int out_head_dim = 0, Placement placement = {}) {
  WeightDesc desc;
  const GuardTensor weight(backend, layer.dtype, {layer.out_features, layer.in_features},
                           layer.weight, placement);
  GuardTensor bias;
  if (!layer.bias.empty()) {
    bias = GuardTensor(backend, layer.dtype, {layer.out_features}, layer.bias, placement);
  }
  desc.weight = weight.view();
  desc.bias = bias.view();
  desc.out_head_dim = out_head_dim;
  auto packed = backend.pack_weight(desc);
  EXPECT_TRUE(packed.ok()) << packed.status().to_string();
  return packed.ok() ? *packed : nullptr;
}

}  // namespace flashomni::testkit

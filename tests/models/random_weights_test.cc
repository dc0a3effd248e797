// SPDX-License-Identifier: Apache-2.0
#include "models/random_weights.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashomni {
namespace {

struct Made {
  std::vector<uint8_t> memory;
  std::vector<float> values;
};

Made make(uint64_t seed, const std::string& name, const std::vector<int64_t>& shape) {
  Made out;
  RandomWeights weights(seed);
  const TensorEntry e = weights.make(name, shape, out.memory);
  EXPECT_EQ(e.name, name);
  EXPECT_EQ(e.shape, shape);
  out.values = *to_f32(e);
  return out;
}

double mean(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v) sum += x;
  return sum / double(v.size());
}

double deviation(const std::vector<float>& v) {
  const double m = mean(v);
  double sum = 0;
  for (const float x : v) sum += (x - m) * (x - m);
  return std::sqrt(sum / double(v.size()));
}

TEST(RandomWeights, DependOnSeedAndNameOnly) {
  const std::vector<int64_t> shape = {300, 400};  // more than one generator's share
  EXPECT_EQ(make(1, "a.weight", shape).memory, make(1, "a.weight", shape).memory);
  EXPECT_NE(make(1, "a.weight", shape).memory, make(2, "a.weight", shape).memory);
  EXPECT_NE(make(1, "a.weight", shape).memory, make(1, "b.weight", shape).memory);
}

TEST(RandomWeights, HaveTheScaleOfTheirKind) {
  const Made matrix = make(1, "ff.weight", {600, 400});
  EXPECT_NEAR(mean(matrix.values), 0, 1e-3);
  EXPECT_NEAR(deviation(matrix.values), 1 / std::sqrt(400.0), 5e-4);
  const Made modulation = make(1, "norm1.linear.weight", {600, 400});
  EXPECT_NEAR(deviation(modulation.values), 0.3 / std::sqrt(400.0), 2e-4);
  // A convolution's inputs are all its dimensions but the first.
  EXPECT_NEAR(deviation(make(1, "proj.weight", {3000, 16, 2, 2}).values), 1 / 8.0, 1e-3);
  const Made norm = make(1, "norm_q.weight", {4096});
  EXPECT_NEAR(mean(norm.values), 1, 0.01);
  EXPECT_NEAR(deviation(norm.values), 0.1, 0.01);
  EXPECT_NEAR(deviation(make(1, "ff.bias", {4096}).values), 0.02, 0.002);
}

}  // namespace
}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Reads tests/models/fixtures (see make_fixtures.py) and compares with what was recorded there.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flashomni/types.h"
#include "io/safetensors.h"

namespace flashomni {

inline std::string fixture_folder(const std::string& name) {
  return std::string(FO_SOURCE_DIR) + "/tests/models/fixtures/" + name;
}

// Largest difference over the standard deviation of the wanted values; infinite when the sizes
// differ or anything is NaN.
inline double relative_error(const std::vector<float>& seen, const std::vector<float>& wanted) {
  EXPECT_EQ(seen.size(), wanted.size());
  if (seen.size() != wanted.size() || wanted.empty()) return INFINITY;
  double mean = 0, var = 0, worst = 0;
  for (float w : wanted) mean += w;
  mean /= double(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    var += (wanted[i] - mean) * (wanted[i] - mean);
    const double d = std::abs(double(seen[i]) - wanted[i]);
    if (!(d <= worst)) worst = d;
  }
  return std::isnan(worst) ? INFINITY : worst / std::sqrt(var / double(wanted.size()));
}

// Root mean square of the difference over that of the wanted values.
inline double rms_error(const std::vector<float>& seen, const std::vector<float>& wanted) {
  EXPECT_EQ(seen.size(), wanted.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < std::min(seen.size(), wanted.size()); ++i) {
    difference += (double(seen[i]) - wanted[i]) * (double(seen[i]) - wanted[i]);
    size += double(wanted[i]) * wanted[i];
  }
  return std::sqrt(difference / size);
}

// A recorded tensor whose first dimension may be a batch.
struct Recorded {
  std::vector<int64_t> shape;
  std::vector<float> values;

  // Sample `index` of the batch, without its first dimension; its first `rows` rows only, if given.
  std::vector<float> sample(int64_t index, int64_t rows = -1) const {
    const int64_t size = int64_t(values.size()) / shape[0];
    const auto begin = values.begin() + index * size;
    return {begin, rows < 0 ? begin + size : begin + rows * (size / shape[1])};
  }
};

class Fixture {
 public:
  explicit Fixture(const std::string& folder,
                   const std::string& file = "inputs_and_outputs.safetensors")
      : file_(*SafetensorsFile::open(fixture_folder(folder) + "/" + file)) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  Recorded operator[](const std::string& name) const {
    const TensorEntry* e = file_.find(name);
    EXPECT_NE(e, nullptr) << name;
    if (!e) return {};
    if (e->dtype != StoredDType::kI64) return {e->shape, *to_f32(*e)};
    Recorded r{e->shape, {}};
    const std::vector<uint8_t> stored = *read_tensor(*e);
    for (int64_t i = 0; i < e->numel(); ++i) {
      int64_t v;
      std::memcpy(&v, stored.data() + size_t(i) * sizeof v, sizeof v);
      r.values.push_back(float(v));
    }
    return r;
  }

 private:
  SafetensorsFile file_;
};

inline std::vector<float> contents(const TensorView& v) {
  EXPECT_TRUE(v.is_contiguous());
  return {v.as<float>(), v.as<float>() + v.numel()};
}

// The states that a tap saw, by name: latents and text.
using TappedStates = std::map<std::string, std::pair<std::vector<float>, std::vector<float>>>;

// The f32 view of host values.
inline TensorView view_of(std::vector<float>& values, std::initializer_list<int64_t> dims) {
  return TensorView::contiguous(values.data(), DType::kF32, dims);
}

}  // namespace flashomni

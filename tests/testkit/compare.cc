// SPDX-License-Identifier: Apache-2.0
#include "tests/testkit/compare.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "base/half.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {

std::vector<double> rounded_to(DType dtype, const std::vector<double>& values) {
  std::vector<double> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const float f = static_cast<float>(values[i]);
    switch (dtype) {
      case DType::kBF16:
        out[i] = bf16_to_f32(f32_to_bf16(f));
        break;
      case DType::kF16:
        out[i] = f16_to_f32(f32_to_f16(f));
        break;
      default:
        out[i] = f;
    }
  }
  return out;
}

std::vector<float> to_f32(const std::vector<double>& values) {
  return std::vector<float>(values.begin(), values.end());
}

std::vector<std::vector<float>> to_f32(const std::vector<std::vector<double>>& tensors) {
  std::vector<std::vector<float>> result;
  for (const auto& values : tensors) result.push_back(to_f32(values));
  return result;
}

std::vector<double> to_f64(const std::vector<float>& values) {
  return std::vector<double>(values.begin(), values.end());
}

std::vector<double> absolute(std::vector<double> values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

Expected within(std::vector<double> truth, const ErrorModel& model) {
  const std::vector<double> naive = rounded_to(model.out_dtype, model.naive);
  std::vector<double> allowed(truth.size(), 0);
  const size_t row = static_cast<size_t>(model.row);
  for (size_t first = 0; first < truth.size(); first += row) {
    double worst = 0;
    for (size_t i = first; i < first + row; ++i) {
      if (std::isfinite(truth[i])) worst = std::max(worst, std::abs(naive[i] - truth[i]));
    }
    for (size_t i = first; i < first + row; ++i) {
      if (!std::isfinite(truth[i])) continue;
      const double magnitude = model.magnitude.empty() ? std::abs(truth[i]) : model.magnitude[i];
      allowed[i] = kNaiveFactor * worst + model.slack * unit_roundoff(DType::kF32) * magnitude +
                   unit_roundoff(model.out_dtype) * std::abs(truth[i]);
    }
  }
  return {std::move(truth), std::move(allowed)};
}

std::string coordinates(size_t index, const std::vector<int64_t>& shape) {
  std::string text;
  for (size_t i = shape.size(); i-- > 0;) {
    const size_t extent = static_cast<size_t>(shape[i]);
    text = std::to_string(index % extent) + (text.empty() ? "" : ",") + text;
    index /= extent;
  }
  return "[" + text + "]";
}

testing::AssertionResult compare(const Output& ours, const Expected& expected) {
  const std::vector<double>& truth = expected.values;
  if (ours.values.size() != truth.size()) {
    return testing::AssertionFailure()
           << ours.values.size() << " elements, wanted " << truth.size();
  }
  size_t worst = 0;
  double worst_ratio = 0;
  size_t outside = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    if (std::isnan(truth[i])) {
      if (ours.bits[i] == ours.untouched_bits) continue;
      return testing::AssertionFailure() << "at " << coordinates(i, ours.shape) << ": "
                                         << ours.values[i] << " was written, wanted untouched";
    }
    if (!std::isfinite(truth[i]) || !std::isfinite(ours.values[i])) {
      if (ours.values[i] == truth[i]) continue;
      return testing::AssertionFailure() << "at " << coordinates(i, ours.shape) << ": "
                                         << ours.values[i] << ", wanted " << truth[i];
    }
    const double error = std::abs(ours.values[i] - truth[i]);
    if (error <= expected.allowed[i]) continue;
    ++outside;
    const double ratio = error / std::max(expected.allowed[i], 1e-300);
    if (ratio > worst_ratio) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (outside == 0) return testing::AssertionSuccess();
  std::ostringstream message;
  message.precision(9);
  message << outside << " of " << truth.size() << " elements are out of bounds, the worst at "
          << coordinates(worst, ours.shape) << ": " << ours.values[worst] << ", wanted "
          << truth[worst] << " +- " << expected.allowed[worst] << " (" << worst_ratio
          << " times the bound)";
  return testing::AssertionFailure() << message.str();
}

testing::AssertionResult same_bits(const Output& ours, const Output& expected) {
  if (ours.shape != expected.shape) return testing::AssertionFailure() << "shapes differ";
  for (size_t i = 0; i < ours.bits.size(); ++i) {
    if (ours.bits[i] == expected.bits[i]) continue;
    std::ostringstream message;
    message.precision(9);
    message << "at " << coordinates(i, ours.shape) << ": " << ours.values[i] << " (0x" << std::hex
            << ours.bits[i] << "), wanted " << expected.values[i] << " (0x" << expected.bits[i]
            << ")";
    return testing::AssertionFailure() << message.str();
  }
  return testing::AssertionSuccess();
}

}  // namespace flashomni::testkit

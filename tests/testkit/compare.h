// SPDX-License-Identifier: Apache-2.0
//
// Is this result as good as it has to be? First that what must stay untouched did and that no NaN
// or infinity is out of place, then every element against its own bound; a failure names the worst
// element and both values.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "flashomni/types.h"

namespace flashomni::testkit {

// Values after a round trip through `dtype`.
std::vector<double> rounded_to(DType dtype, const std::vector<double>& values);

std::vector<float> to_f32(const std::vector<double>& values);
std::vector<std::vector<float>> to_f32(const std::vector<std::vector<double>>& tensors);
std::vector<double> to_f64(const std::vector<float>& values);
std::vector<double> absolute(std::vector<double> values);

// What an operation left in a tensor.
struct Output {
  std::vector<int64_t> shape;
  std::vector<double> values;   // row-major
  std::vector<uint64_t> bits;   // the same, undecoded
  uint64_t untouched_bits = 0;  // of an element that was never written
};

// What it should have left there, and how far off each element may be. NaN means that the element
// must not have been touched.
struct Expected {
  std::vector<double> values;
  std::vector<double> allowed;
};

// Where the bounds come from; see tolerances.h.
struct ErrorModel {
  std::vector<double> naive;      // the same operation, run naively in f32
  std::vector<double> magnitude;  // the same on absolute values; empty: |truth|
  int64_t row = 1;                // elements that share the worst naive error of any of them
  double slack = 0;
  DType out_dtype = DType::kF32;
};
Expected within(std::vector<double> truth, const ErrorModel& model);

// Succeeds if every element is finite and within its bound where a value is expected, the expected
// infinity where one is, and untouched bit for bit where NaN is.
testing::AssertionResult compare(const Output& ours, const Expected& expected);

// Succeeds if both hold the same bits.
testing::AssertionResult same_bits(const Output& ours, const Output& expected);

// "[0,3,1,2]" of a flat row-major index.
std::string coordinates(size_t index, const std::vector<int64_t>& shape);

}  // namespace flashomni::testkit

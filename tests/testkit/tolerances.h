// SPDX-License-Identifier: Apache-2.0
//
// How wrong an operation may be, each number with its reason. A bound for element i is
//
//   kNaiveFactor * worst error of a naive same-precision run in the row of i
//   + slack ulps * unit roundoff of f32 * magnitude_i      (what the naive run may miss by luck)
//   + unit roundoff of the output type * |truth_i|         (the final rounding may go either way)
//
// where magnitude_i is the operation run on absolute values: the size of what was summed, not of
// what was left of it, so that cancellation does not make a test flaky.
#pragma once

#include "flashomni/types.h"

namespace flashomni::testkit {

// A blocked kernel sums in another order than the naive run and usually better; twice its error is
// what the project promises.
inline constexpr double kNaiveFactor = 2;

// One rounding of 2^-24 for each of: product, sum, and the two halves of a split accumulator. Short
// rows can come out exact in the naive run, so its error alone cannot be the bound.
inline constexpr double kSumSlack = 4;

// As above plus the vector exp of scores: a relative error of about 2 ulp, and the rounding of the
// score itself, which exp turns into a relative error of |score| ulp (part of the magnitude).
inline constexpr double kSoftmaxSlack = 6;

// The vector exp / tanh behind the activations is allowed 4 ulp where libm has 1, once in exp and
// once in the division.
inline constexpr double kActivationSlack = 8;

// Mean and variance are sums over the row; normalised values are of the order of 1, and scaling by
// 1/deviation multiplies the rounding of x - mean.
inline constexpr double kNormSlack = 8;

// Relative rounding error of one operation in this type (half a unit in the last place).
constexpr double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 0x1p-8;
    case DType::kF16:
      return 0x1p-11;
    default:
      return 0x1p-24;
  }
}

}  // namespace flashomni::testkit

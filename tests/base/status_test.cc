// SPDX-License-Identifier: Apache-2.0
#include "flashomni/status.h"

#include <gtest/gtest.h>

#include <memory>

#include "flashomni/types.h"

namespace flashomni {
namespace {

Result<int> half_of(int x) {
  if (x % 2) return invalid_argument("x is " + std::to_string(x) + ", wanted an even number");
  return x / 2;
}

Result<int> quarter_of(int x) {
  FO_ASSIGN_OR_RETURN(const int h, half_of(x));
  return half_of(h);
}

TEST(Result, CarriesValueOrReason) {
  EXPECT_EQ(*quarter_of(12), 3);
  EXPECT_EQ(quarter_of(6).status().to_string(), "invalid_argument: x is 3, wanted an even number");
  Result<std::unique_ptr<int>> moved(std::make_unique<int>(7));
  EXPECT_EQ(**moved, 7);
  EXPECT_EQ(Status().to_string(), "ok");
}

TEST(TensorView, SlicesAndStrides) {
  float data[2 * 3 * 4];
  const TensorView v = TensorView::contiguous(data, DType::kF32, {2, 3, 4});
  EXPECT_EQ(v.numel(), 24);
  EXPECT_EQ(v.bytes(), sizeof(data));
  EXPECT_TRUE(v.is_contiguous());
  const TensorView s = v.slice(1, 1, 3);
  EXPECT_EQ(s.data, data + 4);
  EXPECT_EQ(s.size(1), 2);
  EXPECT_FALSE(s.is_contiguous());
  EXPECT_EQ(s.to_string(), "f32[2,2,4]");
  EXPECT_EQ(TensorView().numel(), 0);
}

}  // namespace
}  // namespace flashomni

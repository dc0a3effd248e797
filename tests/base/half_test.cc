// SPDX-License-Identifier: Apache-2.0
#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace flashomni {
namespace {

// Every finite 16-bit value survives the round trip, and decodes to what its fields say.
TEST(Half, RoundTripsEveryValue) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = f16_to_f32(uint16_t(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(f))));
      continue;
    }
    EXPECT_EQ(f32_to_f16(f), h);
    const int exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent != 31) {
      const double magnitude = exponent ? std::ldexp(1024.0 + mantissa, exponent - 25)
                                        : std::ldexp(double(mantissa), -24);
      EXPECT_EQ(f, (h & 0x8000) ? -magnitude : magnitude);
    }
    const float b = bf16_to_f32(uint16_t(h));
    if (!std::isnan(b)) {
      EXPECT_EQ(f32_to_bf16(b), h);
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(2049.f), f32_to_f16(2048.f));         // halfway, down to even
  EXPECT_EQ(f16_to_f32(f32_to_f16(2051.f)), 2052.f);         // halfway, up to even
  EXPECT_EQ(f32_to_f16(65519.f), f32_to_f16(65504.f));       // largest finite
  EXPECT_TRUE(std::isinf(f16_to_f32(f32_to_f16(65520.f))));  // halfway to 65536 overflows
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);                        // half the smallest subnormal: even
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 1);
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(257.f)), 256.f);
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(259.f)), 260.f);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::nanf("")))));
}

}  // namespace
}  // namespace flashomni

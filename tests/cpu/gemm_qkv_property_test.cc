// SPDX-License-Identifier: Apache-2.0
//
// Grouped GEMM-Q of the CPU backend against its own three projections.
#include <gtest/gtest.h>

#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/gemm_qkv_case.h"

namespace flashomni::testkit {
namespace {

TEST(GemmQkvProperty, HasTheBitsOfThreeCalls) {
  uint64_t seed = 130000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 4; ++i) {
      GemmQCase c = random_gemm_q_case(++seed, pattern);
      c.out_dtype = DType::kF32;
      for (const std::string& isa : all_cpu_isas()) expect_grouped_as_alone(cpu_backend(isa), c);
    }
  }
}

TEST(GemmQkvProperty, WantsOneSegmentOfOneX) {
  expect_qkv_refusals(cpu_backend(), DType::kF32);
}

}  // namespace
}  // namespace flashomni::testkit

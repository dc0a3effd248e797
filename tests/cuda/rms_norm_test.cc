// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm over all heads with RoPE on the GPU, in each float type, against the oracle.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/rms_norm_case.h"

namespace flashomni::testkit {
namespace {

class CudaRmsNorm : public CudaTest {};

TEST_F(CudaRmsNorm, MatchesTheOracle) {
  for (uint64_t seed = 320000; seed < 320060; ++seed) {
    const RmsNormCase c = random_rms_norm_case(seed, kFloatTypes[seed % 3]);
    SCOPED_TRACE(c.text());
    const RmsNormData data = make_data(c);
    EXPECT_TRUE(compare(run(backend(), c, data), expected_result(c, data)));
  }
}

}  // namespace
}  // namespace flashomni::testkit

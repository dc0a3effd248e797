// SPDX-License-Identifier: Apache-2.0
#include "reference/gemm_q.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

constexpr double kUntouched = -77;

// One token of width 2, one head of dim 2: projects (1, 2) to (5 + 0.5, 11 - 0.5).
GemmQInput<double> tiny() {
  GemmQInput<double> in;
  in.tokens = 1;
  in.rows = 1;
  in.in_features = 2;
  in.head_dim = 2;
  in.x = {1, 2};
  in.weight = {1, 2, 3, 4};
  in.bias = {0.5, -0.5};
  return in;
}

TEST(ReferenceGemmQ, ProjectsAndAddsTheBias) {
  std::vector<double> out(2, kUntouched);
  gemm_q(tiny(), out);
  EXPECT_EQ(out, (std::vector<double>{5.5, 10.5}));
}

TEST(ReferenceGemmQ, NormalisesAfterTheBias) {
  GemmQInput<double> in = tiny();
  in.rms_weight = {2, 3};
  in.rms_eps = 0.25;
  std::vector<double> out(2, kUntouched);
  gemm_q(in, out);
  const double root = std::sqrt((5.5 * 5.5 + 10.5 * 10.5) / 2 + 0.25);
  EXPECT_NEAR(out[0], 2 * 5.5 / root, 1e-14);
  EXPECT_NEAR(out[1], 3 * 10.5 / root, 1e-14);
}

TEST(ReferenceGemmQ, RotatesAdjacentPairsByTheJointRow) {
  // The segment's row 0 is token 1 of the joint sequence: a quarter turn; token 0 has none.
  GemmQInput<double> in = tiny();
  in.tokens = 2;
  in.token_offset = 1;
  in.rope_cos = {1, 0};
  in.rope_sin = {0, 1};
  std::vector<double> out(4, kUntouched);
  gemm_q(in, out);
  EXPECT_EQ(out, (std::vector<double>{kUntouched, kUntouched, -10.5, 5.5}));
}

TEST(ReferenceGemmQ, RotationKeepsThePairLengthAndPairsNeighbours) {
  std::vector<double> x = {1, 2, 3, 4};
  const std::vector<double> cos = {std::cos(0.3), std::cos(1.1)};
  const std::vector<double> sin = {std::sin(0.3), std::sin(1.1)};
  rotate_pairs(4, x.data(), cos.data(), sin.data());
  EXPECT_NEAR(x[0] * x[0] + x[1] * x[1], 5, 1e-14);
  EXPECT_NEAR(x[2] * x[2] + x[3] * x[3], 25, 1e-14);
  EXPECT_NEAR(x[0], 1 * cos[0] - 2 * sin[0], 1e-15);
  EXPECT_NEAR(x[3], 4 * cos[1] + 3 * sin[1], 1e-15);
}

// Scores of rotated queries and keys depend on the difference of their positions only.
TEST(ReferenceGemmQ, RotationIsRelative) {
  const auto dot_at = [](double q_angle, double k_angle) {
    std::vector<double> q = {0.3, -1.2}, k = {0.7, 0.4};
    const double qc = std::cos(q_angle), qs = std::sin(q_angle);
    const double kc = std::cos(k_angle), ks = std::sin(k_angle);
    rotate_pairs(2, q.data(), &qc, &qs);
    rotate_pairs(2, k.data(), &kc, &ks);
    return q[0] * k[0] + q[1] * k[1];
  };
  EXPECT_NEAR(dot_at(2.0, 0.5), dot_at(5.5, 4.0), 1e-14);
}

TEST(ReferenceGemmQ, WritesOnlyComputedTilesOfItsSegment) {
  GemmQInput<double> in;
  in.tokens = 5;
  in.rows = 3;
  in.token_offset = 1;  // tokens 1..3; blocks of 2 make token 1 share its block with token 0
  in.in_features = 3;
  in.heads = 2;
  in.head_dim = 2;
  in.x = random_values(1, 9);
  in.weight = random_values(2, 12);
  std::vector<double> dense(20, kUntouched);
  gemm_q(in, dense);

  BlockMask mask{.heads = 2, .q_tokens = 5, .kv_tokens = 5, .block_q = 2, .block_kv = 2};
  mask.c = {1, 0, 1, 0, 1, 1};  // head 0: tokens 0 1 and 4; head 1: tokens 2 3 and 4
  mask.s.assign(18, 1);
  in.mask = &mask;
  std::vector<double> out(20, kUntouched);
  gemm_q(in, out);
  for (int n = 0; n < 5; ++n) {
    for (int h = 0; h < 2; ++h) {
      const bool written = (n == 1 && h == 0) || ((n == 2 || n == 3) && h == 1);
      for (int e = 0; e < 2; ++e) {
        const int at = (n * 2 + h) * 2 + e;
        EXPECT_EQ(out[at], written ? dense[at] : kUntouched) << "token " << n << " head " << h;
      }
    }
  }
}

}  // namespace
}  // namespace flashomni::reference

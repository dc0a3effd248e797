// SPDX-License-Identifier: Apache-2.0
//
// How launches of the projections are cut, as far as that is pure host code.
#include "cuda/gemm_config.h"

#include <gtest/gtest.h>

#include "base/ceil_div.h"
#include "cuda/kernels/sm90/gemm_args.h"

namespace flashomni::cuda {
namespace {

TEST(GemmQWindow, Has1024RowsWhereTheCountsFit) {
  EXPECT_EQ(gemm_q_window(24, 260, 128), 8);
  EXPECT_EQ(gemm_q_window(24, 520, 64), 16);
  EXPECT_EQ(gemm_q_window(1, 1, 128), 8);
}

TEST(GemmQWindow, GrowsUntilTheCountsFit) {
  EXPECT_EQ(gemm_q_window(1024, 80, 64), 16);  // 1024 * (5 + 1) numbers are just as many as fit
  EXPECT_EQ(gemm_q_window(1024, 81, 64), 32);
  for (const int units : {1, 24, 640, sm90::kGemmQMaxUnits}) {
    for (const int blocks : {1, 7, 260, 1861, 1 << 20}) {
      for (const int block_rows : {64, 128}) {
        const int window = gemm_q_window(units, blocks, block_rows);
        EXPECT_LE(units * (ceil_div(blocks, window) + 1), sm90::kGemmQMaxCounts);
        // Tiles of 256 rows begin at multiples of their blocks.
        EXPECT_EQ(window % (sm90::kGemmQRows / block_rows), 0);
      }
    }
  }
}

}  // namespace
}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// Which kernels run where, without a GPU.
#include "cuda/config.h"

#include <gtest/gtest.h>

namespace flashomni::cuda {
namespace {

AttentionProblem good() {
  return {.compute_capability = 90, .dtype = DType::kBF16, .head_dim = 128};
}

TEST(CudaConfig, TakesWhatModelsUse) {
  for (int head_dim : {64, 96, 128}) {
    for (int block : {64, 128}) {
      AttentionProblem p = good();
      p.head_dim = head_dim;
      p.block_q = p.block_kv = block;
      EXPECT_TRUE(choose_attention_kernel(p).ok());
      p.dtype = DType::kF16;
      EXPECT_TRUE(choose_attention_kernel(p).ok());
    }
  }
}

TEST(CudaConfig, NamesEveryReason) {
  AttentionProblem p = good();
  p.compute_capability = 89;
  p.dtype = DType::kF32;
  p.head_dim = 80;
  p.block_q = 32;
  p.block_kv = 256;
  const std::string why = choose_attention_kernel(p).status().message();
  for (const char* word : {"8.9", "f32", "80", "32", "256"}) {
    EXPECT_NE(why.find(word), std::string::npos) << word << " in: " << why;
  }
}

// sm_90a kernels run on no other device, newer ones included.
TEST(CudaConfig, OnlyHopperHasTheSparseKernels) {
  for (int capability : {80, 86, 89, 100, 120}) {
    AttentionProblem p = good();
    p.compute_capability = capability;
    EXPECT_FALSE(choose_attention_kernel(p).ok()) << capability;
    EXPECT_FALSE(check_sparse_gemm_device("gemm_q", capability).ok()) << capability;
    EXPECT_TRUE(check_compute_capability(capability).ok()) << capability;
    EXPECT_EQ(kernel_architecture(capability), "sm_80");
  }
  EXPECT_TRUE(check_sparse_gemm_device("gemm_q", 90).ok());
  EXPECT_EQ(kernel_architecture(90), "sm_90a");
  EXPECT_FALSE(check_compute_capability(75).ok());
}

}  // namespace
}  // namespace flashomni::cuda

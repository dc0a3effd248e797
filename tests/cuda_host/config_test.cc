// SPDX-License-Identifier: Apache-2.0
//
// Which kernels run where, without a GPU.
#include "cuda/config.h"

#include <gtest/gtest.h>

namespace flashomni::cuda {
namespace {

AttentionProblem good() {
  return {.dtype = DType::kBF16, .head_dim = 128};
}

TEST(CudaConfig, TakesWhatModelsUse) {
  for (int head_dim : {64, 96, 128}) {
    for (int block : {64, 128}) {
      AttentionProblem p = good();
      p.head_dim = head_dim;
      p.block_q = p.block_kv = block;
      EXPECT_TRUE(check_attention_kernel(p).ok());
      p.dtype = DType::kF16;
      EXPECT_TRUE(check_attention_kernel(p).ok());
    }
  }
}

TEST(CudaConfig, NamesEveryReason) {
  AttentionProblem p = good();
  p.dtype = DType::kF32;
  p.head_dim = 80;
  p.block_q = 32;
  p.block_kv = 256;
  const std::string why = check_attention_kernel(p).message();
  for (const char* word : {"f32", "80", "32", "256"}) {
    EXPECT_NE(why.find(word), std::string::npos) << word << " in: " << why;
  }
}

// sm_90a kernels run on no other device, newer ones included.
TEST(CudaConfig, HopperHasItsOwnKernelsAndAllOthersThePortableOnes) {
  EXPECT_EQ(choose_kernel_path(90, "").value(), KernelPath::kHopper);
  for (int capability : {80, 86, 87, 89, 100, 103, 120}) {
    const auto path = choose_kernel_path(capability, "");
    ASSERT_TRUE(path.ok()) << capability;
    EXPECT_EQ(path.value(), KernelPath::kPortable) << capability;
  }
  const Status old = choose_kernel_path(75, "").status();
  EXPECT_NE(old.message().find("7.5"), std::string::npos) << old.message();
}

TEST(CudaConfig, APathMayBeAskedFor) {
  for (const char* name : {"portable", "sm_80"}) {
    for (int capability : {80, 89, 90, 120}) {
      EXPECT_EQ(choose_kernel_path(capability, name).value(), KernelPath::kPortable);
    }
    EXPECT_FALSE(choose_kernel_path(75, name).ok());
  }
  for (const char* name : {"hopper", "sm_90a"}) {
    EXPECT_EQ(choose_kernel_path(90, name).value(), KernelPath::kHopper);
    for (int capability : {80, 89, 100}) {
      const Status refused = choose_kernel_path(capability, name).status();
      EXPECT_EQ(refused.code(), StatusCode::kUnsupported);
      EXPECT_NE(refused.message().find(name), std::string::npos) << refused.message();
    }
  }
  for (const char* name : {"Hopper", "sm_90", "ampere"}) {
    const Status refused = choose_kernel_path(90, name).status();
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << name;
    EXPECT_NE(refused.message().find("'" + std::string(name) + "'"), std::string::npos);
  }
}

TEST(CudaConfig, APathNamesItself) {
  for (const KernelPath path : {KernelPath::kHopper, KernelPath::kPortable}) {
    const std::string text = describe_kernel_path(path);
    EXPECT_NE(text.find(kernel_path_name(path)), std::string::npos) << text;
    // Both parts of the description ask for the path.
    EXPECT_EQ(choose_kernel_path(90, kernel_path_name(path)).value(), path);
    EXPECT_EQ(choose_kernel_path(90, text.substr(0, text.find(' '))).value(), path);
  }
}

// Two CTAs of the portable kernel share an SM of an A100 or H100, not one of sm_86 or sm_89.
TEST(CudaConfig, PlansAreCutForTheCtasThatRunAtOnce) {
  EXPECT_EQ(plan_grid(KernelPath::kHopper, 132, 227 << 10), 132);
  EXPECT_EQ(plan_grid(KernelPath::kPortable, 132, 227 << 10), 264);
  EXPECT_EQ(plan_grid(KernelPath::kPortable, 108, 163 << 10), 216);
  EXPECT_EQ(plan_grid(KernelPath::kPortable, 84, 99 << 10), 84);
}

}  // namespace
}  // namespace flashomni::cuda

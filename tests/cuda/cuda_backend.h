// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend for the tests of this folder, made once a process; without a GPU that it can use
// every test skips and says why.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "flashomni/backend.h"

namespace flashomni::testkit {

// Null, with the reason, where there is none.
inline Backend* find_cuda_backend(std::string* reason = nullptr) {
  // Never destroyed: the CUDA runtime may be gone before static objects are.
  static const auto& made = *new auto(make_backend("cuda"));
  if (!made.ok() && reason) *reason = made.status().to_string();
  return made.ok() ? made.value().get() : nullptr;
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    backend_ = find_cuda_backend(&reason);
    if (!backend_) GTEST_SKIP() << "NOT RUN, there is no GPU for it: " << reason;
  }
  Backend& backend() const { return *backend_; }

 private:
  Backend* backend_ = nullptr;
};

inline constexpr DType kFloatTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

}  // namespace flashomni::testkit

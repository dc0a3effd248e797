// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend for the tests of this folder, made once a process for each kernel path; without
// a GPU that it can use a test skips and says why.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "flashomni/backend.h"

namespace flashomni::testkit {

// Null, with the reason, where there is none. `path` as BackendOptions::isa.
inline Backend* find_cuda_backend(const std::string& path = "", std::string* reason = nullptr) {
  // Never destroyed: the CUDA runtime may be gone before static objects are.
  static auto& made = *new std::map<std::string, Result<std::unique_ptr<Backend>>>();
  auto at = made.find(path);
  if (at == made.end()) at = made.emplace(path, make_backend("cuda", {.isa = path})).first;
  if (!at->second.ok() && reason) *reason = at->second.status().to_string();
  return at->second.ok() ? at->second.value().get() : nullptr;
}

class CudaTest : public testing::Test {
 protected:
  explicit CudaTest(const std::string& path = "") { backend_ = find_cuda_backend(path, &reason_); }
  void SetUp() override {
    if (!backend_) GTEST_SKIP() << "NOT RUN, there is no GPU for it: " << reason_;
  }
  Backend& backend() const { return *backend_; }

 private:
  Backend* backend_ = nullptr;
  std::string reason_;
};

// Of operations that each kernel path has its own kernels for; INSTANTIATE_ON_ALL_PATHS(Fixture)
// runs them on both.
class CudaPathTest : public CudaTest, public testing::WithParamInterface<const char*> {
 protected:
  CudaPathTest() : CudaTest(GetParam()) {}
};

#define INSTANTIATE_ON_ALL_PATHS(fixture)                   \
  INSTANTIATE_TEST_SUITE_P(                                 \
      Path, fixture, testing::Values("hopper", "portable"), \
      [](const testing::TestParamInfo<const char*>& path) -> std::string { return path.param; })

inline constexpr DType kFloatTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
//
// Named ranges (NVTX) for Nsight Systems and its like: every operation, and around them the scope
// that they belong to (a layer, "embed", "output", "sampler"), under the names of `--profile`.
// Always compiled in: without a profiler attached a range is one test of a pointer.
#pragma once

#include <nvtx3/nvToolsExt.h>

#include <string>

namespace flashomni::cuda {

class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name) { nvtxRangePushA(name); }
  ~ProfilerRange() { nvtxRangePop(); }
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

// One scope after the other, each until the next begins.
class ProfilerScope {
 public:
  ProfilerScope() = default;
  ~ProfilerScope() { leave(); }
  ProfilerScope(const ProfilerScope&) = delete;
  ProfilerScope& operator=(const ProfilerScope&) = delete;

  void enter(const std::string& name) {
    leave();
    range_ = nvtxRangeStartA(name.c_str());
    open_ = true;
  }

 private:
  void leave() {
    if (open_) nvtxRangeEnd(range_);
    open_ = false;
  }
  nvtxRangeId_t range_ = 0;
  bool open_ = false;
};

}  // namespace flashomni::cuda

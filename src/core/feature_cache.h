// SPDX-License-Identifier: Apache-2.0
//
// One cached tensor with its Taylor factors (strategies: TaylorSeer form): an attention output or a
// module output of one layer and guidance stream.
#pragma once

#include <memory>
#include <vector>

#include "flashomni/backend.h"

namespace flashomni {

class TaylorSite {
 public:
  // Allocates order + 1 tensors of `shape` (f32, rank 2 to 4).
  Status allocate(Backend& backend, const std::vector<int64_t>& shape, int order);
  void release();
  // Forgets the contents, keeps the memory.
  void reset();

  bool allocated() const { return !buffers_.empty(); }
  bool valid() const { return count_ > 0; }
  int count() const { return count_; }          // factors that hold something
  int last_step() const { return last_step_; }  // step of the last refresh, -1 before
  const TensorView& factor(int m) const { return factors_[m]; }
  size_t bytes() const;

  // Takes the fresh feature of step `step`; the order available grows by one per refresh.
  Status refresh(Backend& backend, const Exec& exec, const TensorView& feature, int step);
  // Coefficients x^m / m! of a forecast to `step`, m < count().
  void coefficients(int step, float* out) const;

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
  TensorView factors_[TaylorUpdateParams::kMaxFactors];
  int count_ = 0;
  int last_step_ = -1;
};

}  // namespace flashomni

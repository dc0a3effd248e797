// SPDX-License-Identifier: Apache-2.0
//
// One cached tensor with its Taylor factors (strategies: TaylorSeer form): an attention output or a
// module output of one layer and guidance stream.
#pragma once

#include <memory>
#include <vector>

#include "core/update_backend.h"
#include "flashomni/backend.h"

namespace flashomni {

class TaylorSite {
 public:
  // Room for order + 1 factors of `shape` (rank 2 to 4). A difference is only ever taken of the
  // factors below the highest one, so a site whose highest factor is used up right after a refresh
  // may lend memory for it (`last`, of this shape) from all sites that are refreshed one by one.
  Status allocate(Backend& backend, DType dtype, const std::vector<int64_t>& shape, int order,
                  const TensorView& last = {});
  void release();
  // Forgets the contents, keeps the memory.
  void reset();

  bool allocated() const { return capacity_ > 0; }
  bool valid() const { return count_ > 0; }
  int count() const { return count_; }          // factors that hold something
  int last_step() const { return last_step_; }  // step of the last refresh, -1 before
  const TensorView& factor(int m) const { return factors_[m]; }
  size_t bytes() const;

  // Takes the fresh feature of step `step`; the order available grows by one per refresh.
  Status refresh(Backend& backend, const Exec& exec, const TensorView& feature, int step);
  // The same without a copy, of a site of order 1 at most whose slopes are read only where
  // `symbols` cache. `fresh` holds the feature and becomes factor 0, whose memory it is given in
  // exchange.
  Status exchange(UpdateBackend& backend, const Exec& exec, std::unique_ptr<Buffer>& fresh,
                  const SymbolsView& symbols, int step);
  // Of a site of order 0: the feature of step `step` was written to factor(0) itself.
  void note_written(int step);
  // Coefficients x^m / m! of a forecast to `step`, m < count().
  void coefficients(int step, float* out) const;

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
  TensorView factors_[TaylorUpdateParams::kMaxFactors];
  int capacity_ = 0;
  int count_ = 0;
  int last_step_ = -1;
};

}  // namespace flashomni

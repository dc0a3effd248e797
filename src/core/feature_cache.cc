// SPDX-License-Identifier: Apache-2.0
#include "core/feature_cache.h"

#include <algorithm>
#include <utility>

namespace flashomni {

Status TaylorSite::allocate(Backend& backend, DType dtype, const std::vector<int64_t>& shape,
                            int order, const TensorView& last) {
  release();
  for (int m = 0; m <= order; ++m) {
    if (m == order && last) {
      factors_[m] = last;
      break;
    }
    TensorView& v = factors_[m];
    v.dtype = dtype;
    v.rank = static_cast<int>(shape.size());
    int64_t stride = 1;
    for (int i = v.rank - 1; i >= 0; --i) {
      v.shape[i] = shape[size_t(i)];
      v.stride[i] = stride;
      stride *= v.shape[i];
    }
    FO_ASSIGN_OR_RETURN(auto buffer, backend.allocate(v.bytes()));
    v.data = buffer->data();
    buffers_.push_back(std::move(buffer));
  }
  capacity_ = order + 1;
  return ok_status();
}

void TaylorSite::release() {
  buffers_.clear();
  for (TensorView& f : factors_) f = {};
  capacity_ = 0;
  reset();
}

void TaylorSite::reset() {
  count_ = 0;
  last_step_ = -1;
}

size_t TaylorSite::bytes() const {
  size_t n = 0;
  for (const auto& b : buffers_) n += b->bytes();
  return n;
}

Status TaylorSite::refresh(Backend& backend, const Exec& exec, const TensorView& feature,
                           int step) {
  const int count = std::min(count_ + 1, capacity_);
  TaylorUpdateParams p{.feature = feature, .count = count};
  for (int m = 0; m < count; ++m) p.factors[m] = factors_[m];
  // A site refreshed for the first time has count 1 and no difference to scale.
  if (last_step_ >= 0) p.inv_distance = 1.f / static_cast<float>(step - last_step_);
  FO_RETURN_IF_ERROR(backend.taylor_update(exec, p));
  count_ = count;
  last_step_ = step;
  return ok_status();
}

Status TaylorSite::exchange(UpdateBackend& backend, const Exec& exec,
                            std::unique_ptr<Buffer>& fresh, const SymbolsView& symbols, int step) {
  TaylorSlopeParams p{.previous = factors_[0], .slope = factors_[1], .symbols = symbols};
  std::swap(buffers_[0], fresh);
  factors_[0].data = buffers_[0]->data();
  if (count_ > 0 && capacity_ > 1) {
    p.fresh = factors_[0];
    p.inv_distance = 1.f / static_cast<float>(step - last_step_);
    FO_RETURN_IF_ERROR(backend.taylor_slope(exec, p));
  }
  note_written(step);
  return ok_status();
}

void TaylorSite::note_written(int step) {
  count_ = std::min(count_ + 1, capacity_);
  last_step_ = step;
}

void TaylorSite::coefficients(int step, float* out) const {
  const double x = step - last_step_;
  double c = 1.0;
  for (int m = 0; m < count_; ++m) {
    out[m] = static_cast<float>(c);
    c *= x / (m + 1);
  }
}

}  // namespace flashomni

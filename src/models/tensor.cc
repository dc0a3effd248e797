// SPDX-License-Identifier: Apache-2.0
#include "models/tensor.h"

namespace flashomni {

Result<Tensor> Tensor::allocate(Backend& backend, DType dtype,
                                std::initializer_list<int64_t> dims) {
  Tensor t;
  t.view_ = TensorView::contiguous(nullptr, dtype, dims);
  FO_ASSIGN_OR_RETURN(t.buffer_, backend.allocate(t.view_.bytes()));
  t.view_.data = t.buffer_->data();
  return t;
}

Result<Tensor> Tensor::upload(Backend& backend, std::span<const float> values,
                              std::initializer_list<int64_t> dims) {
  FO_ASSIGN_OR_RETURN(Tensor t, allocate(backend, DType::kF32, dims));
  if (t.view_.numel() != static_cast<int64_t>(values.size())) {
    return internal_error("upload of " + std::to_string(values.size()) + " values into " +
                          t.view_.to_string());
  }
  FO_RETURN_IF_ERROR(backend.upload({}, t.view_.data, values.data(), values.size_bytes()));
  return t;
}

TensorView merge_heads(TensorView v) {
  v.rank = 3;
  v.shape[2] *= v.shape[3];
  v.stride[2] = 1;
  return v;
}

TensorView shape_only(DType dtype, std::initializer_list<int64_t> dims) {
  alignas(4096) static char address[1];
  return TensorView::contiguous(address, dtype, dims);
}

}  // namespace flashomni

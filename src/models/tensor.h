// SPDX-License-Identifier: Apache-2.0
//
// A tensor that owns its backend memory; models hold these and hand out views.
#pragma once

#include <memory>
#include <span>

#include "flashomni/backend.h"

namespace flashomni {

class Tensor {
 public:
  Tensor() = default;

  // Row-major memory for `dims`; contents are undefined.
  static Result<Tensor> allocate(Backend& backend, DType dtype,
                                 std::initializer_list<int64_t> dims);
  // An f32 tensor with the given host values. REQUIRES values.size() == product of dims.
  static Result<Tensor> upload(Backend& backend, std::span<const float> values,
                               std::initializer_list<int64_t> dims);

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT: a tensor is a view with an owner
  explicit operator bool() const { return bool(view_); }
  size_t bytes() const { return buffer_ ? buffer_->bytes() : 0; }

 private:
  std::unique_ptr<Buffer> buffer_;
  TensorView view_;
};

// [B, N, H, d] as [B, N, H*d]. REQUIRES heads that lie next to each other.
TensorView merge_heads(TensorView v);

// A view that stands for a tensor of this shape where only shapes matter (workspace_bytes): its
// address is aligned and must not be used.
TensorView shape_only(DType dtype, std::initializer_list<int64_t> dims);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// What every operation of the torch seam needs: tensors as views, statuses as exceptions, the
// backend of a tensor's device, the current stream and workspace from torch's own allocator.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "python/csrc/engine/session.h"

namespace flashomni::python {

// ValueError, NotImplementedError or RuntimeError with the library's message.
void torch_check(const char* op, const Status& status);

template <class T>
T torch_take(const char* op, Result<T> result) {
  torch_check(op, result.status());
  return std::move(result).value();
}

// The same memory if its innermost elements are neighbours, a contiguous copy otherwise.
at::Tensor with_unit_rows(const at::Tensor& t);
// What operations on this device compute in, for a tensor of this dtype: on the CPU f32.
at::Tensor to_activation(const at::Tensor& t);

// The device of one call: its backend (locked), the current stream and a workspace that lives until
// the call is over (torch's allocator keeps it until the stream has passed it).
class Device {
 public:
  Device(const char* op, const at::Tensor& like);

  // A view of a tensor of rank <= 4, whatever its strides. Refuses tensors of another device, which
  // `name` tells.
  TensorView view(const char* name, const at::Tensor& t) const;
  TensorView view(const char* name, const std::optional<at::Tensor>& t) const {
    return t ? view(name, *t) : TensorView{};
  }

  const c10::Device& device() const { return device_; }
  Backend& backend() { return *shared_->backend; }
  std::mutex& mutex() { return shared_->mutex; }
  Exec exec(size_t workspace_bytes);

 private:
  const char* op_;
  c10::Device device_;
  std::shared_ptr<SharedBackend> shared_;
  at::Tensor workspace_;
};

// Where a packed weight is kept by number.
int64_t register_weight(std::shared_ptr<const PackedWeight> weight);
void unregister_weight(int64_t id);
Result<std::shared_ptr<const PackedWeight>> find_weight(int64_t id);

// Schemas and kernels, one function a file.
void define_functional(torch::Library& m);
void implement_functional(torch::Library& m);
void define_session(torch::Library& m);
void implement_session(torch::Library& m);

}  // namespace flashomni::python

// SPDX-License-Identifier: Apache-2.0
//
// A Linear layer's weight on the device: row-major [out, in] in its own element type, as cuBLASLt
// and the sparse products read it, and its bias in f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/device_memory.h"
#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

class CudaPackedWeight final : public PackedWeight {
 public:
  // Rows of the copy are a multiple of this; those past the last are zero. The tensor map of the
  // weight sees rows in groups of as many.
  static constexpr int64_t kRowGroup = 32;

  // Copies from host or device memory and waits for it. REQUIRES: a description that passed
  // check_weight_desc.
  static Result<std::shared_ptr<const PackedWeight>> pack(const WeightDesc& desc);

  int64_t out_features() const override { return out_; }
  int64_t in_features() const override { return in_; }
  size_t bytes() const override { return bytes_; }

  DType dtype() const { return dtype_; }
  // Columns of a head for GEMM-Q, 0 without head structure.
  int64_t head_dim() const { return head_dim_; }
  const void* data() const { return memory_.get(); }  // [out, in]
  const float* bias() const { return bias_; }         // [out] or null
  // The same in dtype(), as cuBLASLt wants it beside results of that type.
  const void* narrow_bias() const { return dtype_ == DType::kF32 ? bias_ : narrow_bias_; }
  int64_t padded_rows() const { return (out_ + kRowGroup - 1) / kRowGroup * kRowGroup; }

 private:
  DType dtype_ = DType::kBF16;
  int64_t out_ = 0;
  int64_t in_ = 0;
  int64_t head_dim_ = 0;
  size_t bytes_ = 0;
  DevicePointer memory_;
  float* bias_ = nullptr;
  void* narrow_bias_ = nullptr;
};

// The weight of an operation of this backend, or null if another backend packed it.
const CudaPackedWeight* cuda_weight(const PackedWeight* weight);

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// A Linear layer's weight in the order in which the microkernel reads it: panels of `panel` output
// features, each [in][panel] contiguous, in the weight's own element type (16-bit weights are
// widened a block at a time while they are used, so they cost 16 bits of memory traffic) or, where
// products take bf16, rounded to that in pairs of rows (KernelTable::products). With a
// head structure every head starts on a panel boundary and the rest of its last panel is zero.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "base/large_memory.h"
#include "cpu/context.h"
#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cpu {

class CpuPackedWeight final : public PackedWeight {
 public:
  // Copies. Refuses element types other than f32, bf16 and f16, shapes that do not match, and an
  // out_head_dim that does not divide the out features.
  static Result<std::shared_ptr<const PackedWeight>> pack(const Context& context,
                                                          const WeightDesc& desc);

  int64_t out_features() const override { return out_; }
  int64_t in_features() const override { return in_; }
  size_t bytes() const override { return bytes_; }

  const KernelTable* kernels() const { return kernels_; }
  DType dtype() const { return dtype_; }
  // Columns in a group: head_dim, or all of them without head structure.
  int64_t group_size() const { return group_size_; }
  bool has_heads() const { return group_size_ != out_; }
  int64_t panels_per_group() const { return panels_per_group_; }
  int64_t num_panels() const { return out_ / group_size_ * panels_per_group_; }
  // Columns of a panel that are not filled up.
  int columns(int64_t panel_index) const {
    const int64_t before = panel_index % panels_per_group_ * kernels_->panel;
    return static_cast<int>(std::min<int64_t>(kernels_->panel, group_size_ - before));
  }
  // Bias of a panel in f32, zero where there is none.
  const float* bias(int64_t panel_index) const { return bias_ + panel_index * kernels_->panel; }

  // Rows [k, k + count) of a panel as the products take them: in place, or widened to f32 into
  // `scratch` [count][panel]. k is even where products take bf16.
  const float* rows(int64_t panel_index, int64_t k, int64_t count, float* scratch) const;
  // Where they lie, and their bytes.
  const char* stored(int64_t panel_index, int64_t k) const {
    return panels_ + row_bytes(panel_index * stored_in_ + k);
  }
  int64_t row_bytes(int64_t count) const {
    return count * kernels_->panel * static_cast<int64_t>(dtype_bytes(dtype_));
  }

 private:
  const KernelTable* kernels_ = nullptr;
  DType dtype_ = DType::kF32;
  int64_t out_ = 0;
  int64_t in_ = 0;
  int64_t stored_in_ = 0;  // filled up with zeros for products in bf16
  int64_t group_size_ = 0;
  int64_t panels_per_group_ = 0;
  size_t bytes_ = 0;
  Memory memory_;
  char* panels_ = nullptr;  // [num_panels][stored in][panel], dtype, or [stored in / 2][panel][2]
  float* bias_ = nullptr;   // [num_panels][panel]
};

// The weight of an operation of this backend, or null if another backend packed it.
const CpuPackedWeight* cpu_weight(const PackedWeight* weight);

}  // namespace flashomni::cpu

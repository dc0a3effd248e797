// SPDX-License-Identifier: Apache-2.0
//
// Descriptors of tensors for the copy engine (TMA). Making one costs the host about a microsecond
// and a driver call, so those in use are kept.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <map>

#include "flashomni/status.h"
#include "flashomni/types.h"

namespace flashomni::cuda {

enum class TensorMapSwizzle : uint8_t { kNone, k32B, k64B, k128B };

// All lists innermost dimension first; dimension 0 is contiguous.
struct TensorMapDesc {
  static constexpr int kMaxRank = 5;
  void* data = nullptr;  // a multiple of 16
  DType dtype = DType::kBF16;
  int rank = 0;
  int64_t size[kMaxRank] = {1, 1, 1, 1, 1};
  int64_t stride_bytes[kMaxRank] = {0, 0, 0, 0, 0};    // [0] is unused; multiples of 16
  int box[kMaxRank] = {1, 1, 1, 1, 1};                 // at most 256 each
  TensorMapSwizzle swizzle = TensorMapSwizzle::k128B;  // box[0] elements span its width

  auto operator<=>(const TensorMapDesc&) const = default;
};

class TensorMapCache {
 public:
  // The map of this description, made at the first call. Fails by name when the description breaks
  // a rule of the copy engine.
  Result<CUtensorMap> get(const TensorMapDesc& desc);

 private:
  std::map<TensorMapDesc, CUtensorMap> maps_;
};

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// Work lists of attention calls without symbols: those of symbols that are all ones, so that both
// give the same bits. One for each shape, made on the host when the shape is first asked for and
// kept on the device.
#pragma once

#include <map>
#include <tuple>

#include "cuda/device_memory.h"
#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

class DensePlans {
 public:
  explicit DensePlans(int grid) : grid_(grid) {}
  DensePlans(const DensePlans&) = delete;
  DensePlans& operator=(const DensePlans&) = delete;

  int grid() const { return grid_; }

  // The geometry that dense calls of this shape are planned for.
  static SymbolGeometry geometry_of(const AttentionParams& params);

  // Device memory in the layout of AttentionPlanLayout. Allocates and copies at the first call for
  // a shape; asking for the workspace of a call makes it beforehand.
  Result<void*> get(const AttentionParams& params);

 private:
  // Batch times heads, query and key tokens, head_dim.
  using Shape = std::tuple<int, int, int, int>;

  const int grid_;
  std::map<Shape, DevicePointer> plans_;
};

}  // namespace flashomni::cuda

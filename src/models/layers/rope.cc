// SPDX-License-Identifier: Apache-2.0
#include "models/layers/rope.h"

#include <cmath>
#include <numeric>

namespace flashomni {

std::vector<PositionId> grid_positions(float first_frame, int frames, int rows, int cols) {
  std::vector<PositionId> ids;
  ids.reserve(size_t(frames) * size_t(rows) * size_t(cols));
  for (int f = 0; f < frames; ++f) {
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < cols; ++x) ids.push_back({first_frame + float(f), float(y), float(x)});
    }
  }
  return ids;
}

Result<RopeTensors> make_rope(Backend& backend, const std::vector<PositionId>& ids,
                              const std::vector<int>& axes_dims, double theta, int head_dim) {
  const int total = std::accumulate(axes_dims.begin(), axes_dims.end(), 0);
  if (total != head_dim || axes_dims.size() > std::tuple_size_v<PositionId>) {
    return invalid_argument("RoPE axes sum to " + std::to_string(total) + " over " +
                            std::to_string(axes_dims.size()) + " axes, wanted head_dim " +
                            std::to_string(head_dim) + " over at most 3");
  }
  const size_t half = size_t(head_dim) / 2;
  std::vector<double> frequency;  // per channel pair
  std::vector<size_t> axis;
  for (size_t a = 0; a < axes_dims.size(); ++a) {
    if (axes_dims[a] % 2 != 0) {
      return invalid_argument("RoPE axis of size " + std::to_string(axes_dims[a]) +
                              ", wanted an even number");
    }
    for (int k = 0; k < axes_dims[a] / 2; ++k) {
      frequency.push_back(1.0 / std::pow(theta, 2.0 * k / axes_dims[a]));
      axis.push_back(a);
    }
  }
  std::vector<float> cos_values(ids.size() * half), sin_values(ids.size() * half);
  for (size_t n = 0; n < ids.size(); ++n) {
    for (size_t k = 0; k < half; ++k) {
      const double angle = double(ids[n][axis[k]]) * frequency[k];
      cos_values[n * half + k] = static_cast<float>(std::cos(angle));
      sin_values[n * half + k] = static_cast<float>(std::sin(angle));
    }
  }
  RopeTensors out;
  const auto rows = static_cast<int64_t>(ids.size());
  const auto cols = static_cast<int64_t>(half);
  FO_ASSIGN_OR_RETURN(out.cos, Tensor::upload(backend, cos_values, {rows, cols}));
  FO_ASSIGN_OR_RETURN(out.sin, Tensor::upload(backend, sin_values, {rows, cols}));
  return out;
}

}  // namespace flashomni

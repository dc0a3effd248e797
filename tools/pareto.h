// SPDX-License-Identifier: Apache-2.0
//
// Which of a set of measured points no other one beats.
#pragma once

#include <cstddef>
#include <vector>

namespace flashomni::tools {

struct ParetoPoint {
  double cost = 0;     // less is better
  double quality = 0;  // more is better
};

// Indices of the points that no other point beats (at most as costly and at least as good, better
// in one of the two), by ascending cost. Of equal points the first stays. Points with a value that
// is not a number never stay.
std::vector<size_t> pareto_front(const std::vector<ParetoPoint>& points);

}  // namespace flashomni::tools

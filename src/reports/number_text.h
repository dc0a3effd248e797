// SPDX-License-Identifier: Apache-2.0
//
// Numbers as tables, pages and plots write them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace flashomni {

std::string fixed(double x, int decimals);  // "inf" and "-" (not a number) where it is no number
std::string percent(double share);          // "41.2 %"
std::string mebibytes(size_t bytes);        // "23.1"

// Round numbers inside [low, high], about `count` of them.
std::vector<double> round_ticks(double low, double high, int count);

}  // namespace flashomni

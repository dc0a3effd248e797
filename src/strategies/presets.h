// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace flashomni::strategies {

// Names of the presets a strategy has, for any model family.
std::vector<std::string> preset_names(const std::string& strategy);

}  // namespace flashomni::strategies

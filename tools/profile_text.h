// SPDX-License-Identifier: Apache-2.0
//
// What --profile says: seconds per operation, for people and as JSON per operation and layer.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/profiling_backend.h"

namespace flashomni::tools {

// A table of operations over all layers, largest first, and the share of `total_seconds` that no
// operation accounts for. `peak_flops` of the device, 0 if unknown.
std::string profile_text(const std::vector<ProfileRow>& rows, double total_seconds,
                         double peak_flops);
nlohmann::json profile_json(const std::vector<ProfileRow>& rows);

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// What the config.json files of all transformers have in common.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace flashomni {

// The parsed file, after refusing other classes than `class_name` and quantised checkpoints. A file
// without a class is taken for one of the wanted class.
Result<nlohmann::json> read_model_config(const std::string& path, const std::string& class_name);

// The axes of a RoPE table: up to three even numbers that sum to head_dim. `source` and `field`
// name them in messages.
Result<std::vector<int>> check_rope_axes(const std::vector<int64_t>& axes, int head_dim,
                                         const std::string& source, const std::string& field);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// `flashomni info FOLDER`: what a transformer folder holds, from config.json and, where there are
// weights, from their headers. Nothing is loaded.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flashomni/backend.h"

namespace flashomni::tools {

struct FolderSummary {
  std::vector<nlohmann::json> components;  // "transformer", and "transformer_2" where there is one
  Status weights;                          // why the weights cannot be loaded; ok if there are none
};

// `folder` holds config.json or folders called transformer (and transformer_2) that do, or is a
// config.json itself; no backend work is done. Fails for configs that no model here can be made of.
Result<FolderSummary> summarize_folder(Backend& backend, const std::string& folder);

// A few lines for each component.
std::string folder_text(const FolderSummary& summary);

}  // namespace flashomni::tools

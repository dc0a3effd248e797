// SPDX-License-Identifier: Apache-2.0
//
// compare --report: every prompt dense and sparse on one page.
#pragma once

#include <string>
#include <vector>

#include "tools/comparison.h"
#include "tools/runtime.h"

namespace flashomni::tools {

// REQUIRES at least one comparison. Symbol maps are shown of those that kept their symbols.
Result<std::string> compare_report(const std::string& command, const Runtime& runtime,
                                   const TextToImageRequest& settings, const StrategyChoice& choice,
                                   const std::vector<Comparison>& all);

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// sweep --report: Pareto curves, figures and pictures of all configs on one page.
#pragma once

#include <string>

#include "tools/runtime.h"
#include "tools/sweep_results.h"

namespace flashomni::tools {

// Reads the pictures that the trials kept in `folder`.
Result<std::string> sweep_report(const std::string& command, const Runtime& runtime,
                                 const SweepResults& results, const std::string& folder);

}  // namespace flashomni::tools

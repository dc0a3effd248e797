// SPDX-License-Identifier: Apache-2.0
//
// generate --report and edit --report: one run on one page.
#pragma once

#include <string>

#include "tools/runtime.h"

namespace flashomni::tools {

// REQUIRES a result whose engine kept its symbols.
Result<std::string> draw_report(const std::string& command, const Runtime& runtime,
                                const TextToImageRequest& request, const StrategyChoice& choice,
                                const TextToImageResult& result);

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// Bookkeeping of what really ran: turns step records into the shares of a RunReport.
#pragma once

#include <string>
#include <vector>

#include "flashomni/engine.h"

namespace flashomni {

// Counts the same (where, reason) once and how often it happened.
void add_fallback(std::vector<Fallback>& fallbacks, const std::string& where,
                  const std::string& reason);

// Fills the shares and FLOPs of `report` from its steps.
void summarize(const std::vector<LayerDesc>& layers, RunReport& report);

}  // namespace flashomni

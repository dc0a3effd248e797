// SPDX-License-Identifier: Apache-2.0
//
// flashomni inspect FILE: what is in a file of saved symbols.
#pragma once

#include <string>

#include "flashomni/symbols.h"
#include "tools/common_options.h"

namespace flashomni::tools {

// Prints geometry, counts and the map of one head; all of it but the map also as JSON.
Status inspect_symbols_file(const std::string& path, int head, const OutputFlags& output);

// The same of symbols that `source` held.
Status show_symbols(const std::string& source, const SparseSymbols& symbols, int head,
                    const OutputFlags& output);

}  // namespace flashomni::tools

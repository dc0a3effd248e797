// SPDX-License-Identifier: Apache-2.0
//
// The sections that the reports of generate, compare and sweep are put together from.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "flashomni/engine.h"
#include "io/image.h"
#include "pipelines/strategy_config.h"
#include "reports/run_detail.h"

namespace flashomni::html {

struct CaptionedPicture {
  std::string caption;
  Image image;
};
// Side by side as far as there is room. `css_class`: "", "one" (not wider than a column) or "many".
Result<std::string> pictures(const std::vector<CaptionedPicture>& pictures,
                             const std::string& css_class = "");

// Seconds per step, sparsity over steps and layers, and the memory ledger of one run.
std::string run_charts(const RunDetail& detail);
std::string memory_table(const RunDetail& detail);

// The maps of every head at the last Update of each layer, and behind a fold those of the Updates
// before it, as many as fit a page; what is left out is said.
Result<std::string> symbol_maps(const std::vector<SymbolSnapshot>& snapshots,
                                const std::vector<std::string>& layers);

// The same of one Update alone, the last, and of the first guidance stream: for pages of many runs.
Result<std::string> last_symbol_maps(const std::vector<SymbolSnapshot>& snapshots,
                                     const std::vector<std::string>& layers);

// What ran dense although it was asked to run sparse; says so when nothing did.
std::string fallbacks(const std::vector<Fallback>& fallbacks);
struct Origin {
  BackendInfo backend;
  std::string model;   // its folder or class
  std::string commit;  // of the build
};
// The exact command, the machine and the build.
std::string origin(const std::string& command, const Origin& from);
// What `generate --config` takes.
std::string config(const StrategyChoice& choice);

}  // namespace flashomni::html

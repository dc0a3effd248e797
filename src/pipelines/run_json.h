// SPDX-License-Identifier: Apache-2.0
//
// The records of a run as JSON, in one form for every subcommand and binding. Shares are 0 to 1,
// times seconds, sizes bytes.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/text_to_image.h"

namespace flashomni {

// {"backend", "device", "isa", "threads", "memory_bytes"}; memory_bytes null where unknown.
nlohmann::json machine_json(const BackendInfo& info);
// {"steps", "width", "height", "guidance", "negative_prompt", "seed"} of a resolved request.
nlohmann::json request_json(const TextToImageRequest& request);

// The shares, FLOPs, peak_cache_bytes and fallbacks of a whole run.
nlohmann::json summary_json(const RunReport& report);
nlohmann::json fallbacks_json(const std::vector<Fallback>& fallbacks);
nlohmann::json ledger_json(const MemoryLedger& ledger);
// How many evaluations of the model were replayed as graphs, and why the others were not.
nlohmann::json graphs_json(const GraphUse& graphs);
// What was done to stay within the cache budget; null without one.
nlohmann::json cache_budget_json(const RunReport& report);
// A list of {"step", "kind", "seconds", "attention_sparsity", "layers": {kind: count}}.
nlohmann::json steps_json(const RunReport& report);
// [step][stream][layer] of {"kind", "attention_sparsity", "cached_sparsity"}.
nlohmann::json layers_json(const RunReport& report);

// Share of the attention of one layer and step that was not computed (a degraded layer's is 1) and
// of its S_c that was 0.
double attention_sparsity(const LayerRecord& record);
double cached_sparsity(const LayerRecord& record);

}  // namespace flashomni

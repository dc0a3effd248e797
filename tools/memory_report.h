// SPDX-License-Identifier: Apache-2.0
//
// Where the memory of a generation went: what the parts say that they hold, beside what the process
// really had resident.
#pragma once

#include <nlohmann/json.hpp>

#include "tools/runtime.h"

namespace flashomni::tools {

// The ledger's fields and, all in bytes:
//   program        resident before anything was loaded: code, libraries
//   weights        packed, of the transformer
//   text_encoder   its tables
//   largest_tensor of the checkpoint: what loading reads at a time
//   activations    with the workspace of the operations
//   cache_peak     most that the cache held at a time
//   process_peak   most that was resident at a time, of the whole process
//   loading_peak   the same until the model was loaded
//   explained      program, weights and text encoder with the larger of what loading (largest
//                  tensor) and running (activations, cache, scratch) add
//   explained_share  explained / process_peak
// The last two only where the backend's memory is the process's.
nlohmann::json memory_json(const Runtime& runtime, const TextToImageResult& result);

}  // namespace flashomni::tools

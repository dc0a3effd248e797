// SPDX-License-Identifier: Apache-2.0
//
// What `flashomni bench e2e` times: whole generations, dense and under a strategy, in one process
// and interleaved, cut into kinds of steps and kinds of operations. The generations are the
// pipeline's own, seen through the profiling backend.
#pragma once

#include <string>
#include <vector>

#include "pipelines/strategy_config.h"
#include "tools/bench_cases.h"
#include "tools/progress.h"
#include "tools/runtime.h"

namespace flashomni::tools {

// One way of generating. The first row is the "generation"; then one row per kind of step ("full
// step", the time of one); then the operations, largest first: each over the whole generation,
// followed by its time in one step of each kind. Rows of operations have no speed-up: a dense and
// a sparse generation do the same work with different operations.
struct E2eRun {
  std::string pattern;  // "dense", or the name of the preset or strategy
  std::vector<BenchRow> rows;
  RunReport report;  // of the last repetition
};

// Dense first, then `choice`. FLOPs are those of the dense generation without what the report says
// was skipped (the extra planes of Update steps count as nothing); `sparsity` is the skipped share.
// REQUIRES a runtime that profiles, and a resolved request.
Result<std::vector<E2eRun>> time_generations(Runtime& runtime, const TextToImageRequest& request,
                                             const StrategyChoice& choice, int repeats,
                                             Progress& progress);

// The rows of whole generations and steps, and a table of operations by kind of step.
std::vector<BenchRow> generation_rows(const std::vector<E2eRun>& runs);
std::string operations_text(const E2eRun& run, double peak_flops);

}  // namespace flashomni::tools

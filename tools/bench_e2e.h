// SPDX-License-Identifier: Apache-2.0
//
// What `flashomni bench e2e` times: whole generations, dense and under strategies, in one process
// and interleaved, cut into kinds of steps and kinds of operations, which the profiling backend
// sees.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/profiling_backend.h"
#include "pipelines/denoise.h"
#include "pipelines/strategy_config.h"
#include "tools/bench_cases.h"
#include "tools/progress.h"

namespace flashomni::tools {

struct E2eOutcome {
  RunReport report;
  double seconds = 0;           // of the denoising loop
  size_t activation_bytes = 0;  // of the model, workspace included
};

// A model that can generate.
struct E2eModel {
  std::string name;
  int64_t tokens = 0;
  int heads = 0;
  int head_dim = 0;
  DType dtype = DType::kF32;
  size_t weight_bytes = 0;
  int steps = 0;
  // `strategy` may be null (dense).
  std::function<Result<E2eOutcome>(int steps, std::unique_ptr<Strategy> strategy,
                                   const EngineOptions& engine, const ProgressCallback& progress)>
      run;
};

// A way of generating besides the dense one.
struct E2eWay {
  std::string pattern;  // its name in the results
  StrategyChoice choice;
  EngineOptions engine;
};

struct E2eOptions {
  int repeats = 3;
  // Marks between operations are free on the CPU; on a GPU they keep kernels from overlapping, so
  // that operations are timed in a shorter run of their own (`profiled_steps` > 0).
  int profiled_steps = 0;
  // Begin a run of every way before anything is timed, not of the dense one only: on a GPU code is
  // loaded on first use, and memory that does not suffice shows at once.
  bool try_all = false;
  EngineOptions dense_engine;  // of the dense generations
};

// What came of one way of generating. The first row is the "generation"; then one row per kind of
// step ("full step", the time of one); then the operations, largest first: each over the whole
// generation, followed by its time in one step of each kind. Rows of operations have no speed-up: a
// dense and a sparse generation do the same work with different operations.
struct E2eRun {
  std::string pattern;
  std::vector<BenchRow> rows;
  RunReport report;  // of the last repetition
  size_t activation_bytes = 0;
};

// Dense first, then `ways`. FLOPs are those of the dense generation without what the report says
// was skipped (the extra planes of Update steps count as nothing); `sparsity` is the skipped share.
Result<std::vector<E2eRun>> time_generations(ProfilingBackend& profiler, const E2eModel& model,
                                             const std::vector<E2eWay>& ways,
                                             const E2eOptions& options, Progress& progress);

// The rows of whole generations and steps, and a table of operations by kind of step.
std::vector<BenchRow> generation_rows(const std::vector<E2eRun>& runs);
std::string operations_text(const E2eRun& run, double peak_flops);

}  // namespace flashomni::tools

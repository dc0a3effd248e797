// SPDX-License-Identifier: Apache-2.0
//
// Operations captured into a CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "flashomni/backend.h"

namespace flashomni::cuda {

// Captures on a stream of its own: the default stream, on which models run, cannot be captured.
class GraphRecorder {
 public:
  GraphRecorder() = default;
  ~GraphRecorder();
  GraphRecorder(const GraphRecorder&) = delete;
  GraphRecorder& operator=(const GraphRecorder&) = delete;

  // Nothing runs, also after an error.
  Result<std::unique_ptr<Graph>> capture(const std::vector<Backend::QueuedOperation>& operations);

 private:
  cudaStream_t stream_ = nullptr;
};

// REQUIRES: a graph of a GraphRecorder.
Status launch_graph(cudaStream_t stream, const Graph& graph);

}  // namespace flashomni::cuda

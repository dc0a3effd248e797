// SPDX-License-Identifier: Apache-2.0
#include "cuda/graph.h"

#include <string>
#include <utility>

#include "cuda/error.h"

namespace flashomni::cuda {
namespace {

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t executable) : executable_(executable) {}
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraphExec_t executable_;
};

// What was captured, until it is made into something that can be launched.
struct Captured {
  cudaGraph_t graph = nullptr;
  ~Captured() {
    if (graph) cudaGraphDestroy(graph);
  }
};

}  // namespace

GraphRecorder::~GraphRecorder() {
  if (stream_) cudaStreamDestroy(stream_);
}

Result<std::unique_ptr<Graph>> GraphRecorder::capture(
    const std::vector<Backend::QueuedOperation>& operations) {
  if (!stream_) {
    FO_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
            "making a stream to capture on");
  }
  const std::string what = "a graph of " + std::to_string(operations.size()) + " operations";
  // Other threads may allocate meanwhile.
  FO_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
          "beginning to capture " + what);
  Status queued;
  for (const Backend::QueuedOperation& operation : operations) {
    queued = operation(stream_);
    if (!queued.ok()) break;
  }
  Captured captured;
  const Status ended =
      cuda_status(cudaStreamEndCapture(stream_, &captured.graph), "capturing " + what);
  FO_RETURN_IF_ERROR(queued);
  FO_RETURN_IF_ERROR(ended);
  if (!captured.graph) return internal_error("capturing " + what + " gave none");
  cudaGraphExec_t executable = nullptr;
  FO_CUDA(cudaGraphInstantiate(&executable, captured.graph, 0), "making " + what);
  return std::unique_ptr<Graph>(std::make_unique<CudaGraph>(executable));
}

Status launch_graph(cudaStream_t stream, const Graph& graph) {
  FO_CUDA(cudaGraphLaunch(static_cast<const CudaGraph&>(graph).executable(), stream),
          "launching a graph");
  return ok_status();
}

}  // namespace flashomni::cuda

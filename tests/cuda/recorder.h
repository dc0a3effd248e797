// SPDX-License-Identifier: Apache-2.0
//
// CUDA graphs of what tests queue.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>

#include "flashomni/status.h"

namespace flashomni::testkit {

inline void expect_cuda(cudaError_t error, const char* what) {
  ASSERT_EQ(error, cudaSuccess) << what << ": " << cudaGetErrorString(error);
}

// A stream of its own, and graphs of what is queued on it.
class Recorder {
 public:
  Recorder() {
    expect_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  }
  ~Recorder() {
    if (graph_) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream_);
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  cudaStream_t stream() const { return stream_; }

  // Fails where the calls do anything that a graph cannot hold.
  void capture(const std::function<Status()>& calls) {
    cudaGraph_t graph = nullptr;
    expect_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), "starting a capture");
    const Status done = calls();
    const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
    ASSERT_TRUE(done.ok()) << done.to_string();
    expect_cuda(ended, "ending a capture");
    expect_cuda(cudaGraphInstantiate(&graph_, graph, 0), "making a graph");
    size_t nodes = 0;
    expect_cuda(cudaGraphGetNodes(graph, nullptr, &nodes), "counting nodes");
    EXPECT_GT(nodes, 0u);
    expect_cuda(cudaGraphDestroy(graph), "freeing a graph");
  }
  void replay() { expect_cuda(cudaGraphLaunch(graph_, stream_), "replaying"); }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
//
// A backend with graphs on a device that has none: what was captured is kept, and run again when it
// is launched. A graph that stands for other operations than it was made of shows as wrong results.
#pragma once

#include <memory>
#include <vector>

#include "core/profiling_backend.h"

namespace flashomni::testkit {

class ReplayingBackend : public ProfilingBackend {
 public:
  // `inner` must outlive this.
  explicit ReplayingBackend(Backend& inner) : ProfilingBackend(inner) { set_enabled(false); }

  int captures = 0, launches = 0;
  size_t operations = 0;  // of the last capture
  bool refuse = false;    // to capture

  Result<std::unique_ptr<Graph>> capture(const std::vector<QueuedOperation>& queued) override {
    if (refuse) return unsupported("no graphs today");
    ++captures;
    operations = queued.size();
    auto graph = std::make_unique<Kept>();
    graph->operations = queued;
    return std::unique_ptr<Graph>(std::move(graph));
  }
  Status launch(const Exec& exec, const Graph& graph) override {
    ++launches;
    for (const QueuedOperation& operation : static_cast<const Kept&>(graph).operations) {
      FO_RETURN_IF_ERROR(operation(exec.stream));
    }
    return ok_status();
  }

 private:
  struct Kept final : Graph {
    std::vector<QueuedOperation> operations;
  };
};

}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
//
// A whole Update and a whole Dispatch step go into a CUDA graph: nothing in them allocates, waits
// or reads back. Replayed on other inputs, a graph gives the bits of the same calls made one by
// one.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/layer_steps.h"
#include "tests/cuda/recorder.h"

namespace flashomni::testkit {
namespace {

bool equal(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t i = 0; i < a[t].size(); ++i) {
      const bool same = a[t][i] == b[t][i] || (std::isnan(a[t][i]) && std::isnan(b[t][i]));
      if (!same) return false;
    }
  }
  return true;
}

class CudaGraph : public CudaTest {};

TEST_F(CudaGraph, AnUpdateAndADispatchStepReplayBitForBit) {
  for (const int tokens : {700, 1920}) {
    SCOPED_TRACE(tokens);
    const SymbolGeometry g{.batch = 1,
                           .heads = 4,
                           .q_tokens = tokens,
                           .kv_tokens = tokens,
                           .block_q = 128,
                           .block_kv = 128};
    LayerSteps layer(backend(), g);
    Recorder recorder;
    if (HasFatalFailure()) return;
    const auto both = [&] {
      const Status done = layer.update(recorder.stream());
      return done.ok() ? layer.dispatch(recorder.stream()) : done;
    };
    std::vector<std::vector<std::vector<double>>> eager;
    for (const uint64_t seed : {1, 2}) {
      layer.set_inputs(seed);
      layer.reset();
      const Status done = both();
      ASSERT_TRUE(done.ok()) << done.to_string();
      ASSERT_TRUE(backend().synchronize({recorder.stream()}).ok());
      eager.push_back(layer.results());
    }
    EXPECT_FALSE(equal(eager[0], eager[1]));

    recorder.capture(both);
    if (HasFatalFailure()) return;
    // The second inputs first: a graph that kept anything of the capture would show.
    for (const uint64_t seed : {2, 1, 2}) {
      layer.set_inputs(seed);
      layer.reset();
      recorder.replay();
      ASSERT_TRUE(backend().synchronize({recorder.stream()}).ok());
      EXPECT_TRUE(equal(layer.results(), eager[seed - 1])) << "inputs " << seed;
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit

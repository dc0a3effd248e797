// SPDX-License-Identifier: Apache-2.0
//
// The same run again and again: equal bits every time, with CUDA graphs and without. Layers of full
// width, short sequences and texts that fill no tile: what races shows here first.
#include <gtest/gtest.h>

#include <cmath>

#include "flashomni/strategies.h"
#include "pipelines/bare_transformer.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/small_bare.h"

namespace flashomni {
namespace {

using testkit::CudaPathTest;

class RepeatTest : public CudaPathTest {
 protected:
  static constexpr int kRuns = 30;

  void expect_equal_runs(BareTransformer& model, bool graphs, const RandomOptions* options) {
    std::vector<float> first;
    int different = 0;
    float most = 0;
    for (int i = 0; i < kRuns; ++i) {
      std::unique_ptr<Strategy> strategy;
      if (options) strategy = std::move(*make_random(*options));
      auto run = model.run(6, std::move(strategy), {.graphs = graphs}, {});
      ASSERT_TRUE(run.ok()) << run.status().to_string();
      if (i == 0) {
        first = run->latents;
      } else if (run->latents != first) {
        ++different;
        for (size_t k = 0; k < first.size(); ++k) {
          most = std::max(most, std::abs(run->latents[k] - first[k]));
        }
      }
    }
    EXPECT_EQ(different, 0) << "of " << kRuns << " runs, by up to " << most
                            << (graphs ? ", with graphs" : ", without graphs")
                            << (options ? ", sparse" : ", dense");
  }
};
INSTANTIATE_ON_ALL_PATHS(RepeatTest);

TEST_P(RepeatTest, BareTransformers) {
  for (const std::string& name : bare_transformer_names()) {
    SCOPED_TRACE(name);
    auto model = load_bare_transformer(backend(), testkit::small_bare_options(name));
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    const RandomOptions options = testkit::small_bare_symbols();
    for (const bool graphs : {false, true}) {
      expect_equal_runs(**model, graphs, nullptr);
      expect_equal_runs(**model, graphs, &options);
    }
  }
}

}  // namespace
}  // namespace flashomni

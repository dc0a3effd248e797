// SPDX-License-Identifier: Apache-2.0
//
// Skipping a run of layers in a whole step: what they add to the residual stream is remembered as
// one tensor (with its Taylor factors) per guidance stream and added instead (TeaCache, first-block
// caches).
#pragma once

#include <memory>
#include <vector>

#include "core/feature_cache.h"
#include "flashomni/strategy.h"

namespace flashomni {

class ModelSkip {
 public:
  // Allocates for a residual stream [batch, tokens, width]. Fails by name when the layers that
  // always run leave nothing to skip.
  Status begin_run(Backend& backend, const SkipSpec& spec, const RunInfo& run, int width);
  void begin_step(bool skip_asked);

  bool enabled() const { return spec_.enabled; }
  bool wants_probe(int stream) const;
  size_t bytes() const;          // of remembered residuals
  size_t scratch_bytes() const;  // of the rest

  Status probe_input(const Exec& exec, const TensorView& x);
  // As Engine::next_layer.
  Result<int> next_layer(const Exec& exec, Strategy& strategy, const StepContext& step, int stream,
                         int layer, const TensorView& x);
  bool skipping() const { return skipping_; }
  // Whether the model asked before its first and after its last skippable layer in this step.
  bool was_asked(int streams) const { return passed_ == streams; }
  // How often the run has waited for the backend, for a change to decide by.
  int waits() const { return waits_; }

 private:
  Result<TensorView> room(std::unique_ptr<Buffer>& buffer, const TensorView& like);
  // Relative change of x against the probe kept; -1 without one. Waits for the backend.
  Result<double> change(const Exec& exec, const TensorView& x);
  Status difference(const Exec& exec, const TensorView& x, const TensorView& y,
                    const TensorView& out);

  Backend* backend_ = nullptr;
  SkipSpec spec_;
  int first_ = 0, last_ = 0;  // layers [first, last) can be skipped
  std::vector<TaylorSite> residuals_;
  std::unique_ptr<Buffer> start_, entry_, difference_, probe_, sums_memory_;
  bool has_probe_ = false;
  double change_ = -1;
  ChangeSums sums_;
  bool skip_asked_ = false;
  bool skipping_ = false;
  int passed_ = 0;
  int waits_ = 0;
};

}  // namespace flashomni

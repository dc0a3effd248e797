// SPDX-License-Identifier: Apache-2.0
//
// Runs a PlanTable: full layers are Updates of their own, layers of cached heads only are taken
// from the cache whole, and everything else is symbols that were made before the run.
#pragma once

#include <vector>

#include "flashomni/strategy.h"
#include "strategies/pattern_store.h"
#include "strategies/plan_table.h"

namespace flashomni::strategies {

class PlanStrategy : public Strategy {
 public:
  struct Settings {
    int order = 0;
    bool residual = false;
    int block_q = 64;
    int block_kv = 64;
    bool protect_text = true;
  };
  explicit PlanStrategy(const Settings& settings) : settings_(settings) {}

  int block_q() const override { return settings_.block_q; }
  int block_kv() const override { return settings_.block_kv; }
  Status begin_run(const RunInfo& run) override;
  Status prepare(Backend& backend, const Exec& exec) override {
    return patterns_.prepare(backend, exec);
  }
  std::string dense_reason() const override;
  CacheSpec cache_spec() const override;
  StepKind begin_step(const StepContext& step) override;
  LayerAction layer_action(const StepContext& step, int layer, int stream) override;
  Status build(const BuildContext& c, SymbolsView out) override;

 protected:
  // Fills a table in which everything is full.
  virtual Status fill(const RunInfo& run, PlanTable& table) const = 0;

 private:
  int after_full(int step, int layer) const;
  int pattern_of(int step, int layer) const {
    return pattern_[size_t(step) * size_t(layers_) + size_t(layer)];
  }
  size_t slot(int layer, int stream) const {
    return size_t(stream) * size_t(layers_) + size_t(layer);
  }
  SparseSymbols symbols_of(const SequenceInfo& s, int step, int layer) const;

  Settings settings_;
  PlanTable table_;
  std::vector<int> pattern_;   // index into patterns_ by (step, layer)
  std::vector<int> in_force_;  // of the symbols a layer and stream has now; -1 before
  int layers_ = 0;
  PatternStore patterns_;
};

}  // namespace flashomni::strategies

// SPDX-License-Identifier: Apache-2.0
//
// The baseline: every step is Full, nothing is cached or skipped.
#include "flashomni/strategies.h"

namespace flashomni {
namespace {

class DenseStrategy : public Strategy {
 public:
  const char* name() const override { return "dense"; }
  Status begin_run(const RunInfo&) override { return ok_status(); }
  int block_q() const override { return 64; }
  int block_kv() const override { return 64; }
  CacheSpec cache_spec() const override { return {}; }
  StepKind begin_step(const StepContext&) override { return StepKind::kFull; }
  Status build(const BuildContext&, SymbolsView) override {
    return internal_error("the dense strategy builds no symbols");
  }
};

}  // namespace

std::unique_ptr<Strategy> make_dense(const DenseOptions&) {
  return std::make_unique<DenseStrategy>();
}

}  // namespace flashomni

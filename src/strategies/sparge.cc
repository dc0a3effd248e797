// SPDX-License-Identifier: Apache-2.0
//
// SpargeAttn; see SpargeOptions. The rule KEEP_CDF_LT keeps less than tau, as the published code
// does. Its second stage (skipping inside the kernel) leaves no symbols.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/pooled_mask.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;

class SpargeStrategy : public strategies::PooledMaskStrategy {
 public:
  explicit SpargeStrategy(const SpargeOptions& o)
      : PooledMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "sparge"; }
  double softmax_skip() const override { return o_.pv; }

  Status begin_run(const RunInfo& run) override {
    const BlockRange text = keep_kv({.sequence = run.sequence});
    if (o_.sink && text.size() > 0 && text.begin > 0) {
      return unsupported(
          "strategy sparge: sink and protect_text keep two separate column ranges "
          "when the text comes last, wanted one of them off");
    }
    return PooledMaskStrategy::begin_run(run);
  }

 protected:
  strategies::PoolingOptions pooling() const override {
    return {block_q_, block_kv_, o_.smooth_k, true, o_.theta_sim};
  }
  Status select(const BuildContext& c, const PooledScratch& w, SymbolsView out) override {
    SelectKvBlocksParams p{.scores = w.scores, .symbols = out};
    if (o_.mode == "topk") {
      const auto blocks = double(out.geometry.num_kv_blocks());
      p.rule = SelectRule::kTopK;
      p.parameter = static_cast<float>(std::max(1.0, std::floor(o_.topk * blocks)));
    } else {
      p.rule = SelectRule::kKeepCdfLt;
      p.parameter = static_cast<float>(o_.tau);
    }
    p.keep_q = keep_q(c);
    p.keep_kv = keep_kv(c);
    if (o_.sink) p.keep_kv = {0, std::max(1, p.keep_kv.end)};
    p.gate_q = w.gate_q;
    p.gate_kv = w.gate_k;
    return c.backend->select_kv_blocks(c.exec, p);
  }

 private:
  SpargeOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_sparge(const SpargeOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  if (options.mode != "topk" && options.mode != "cdf") {
    return invalid_argument("mode is '" + options.mode + "', wanted topk or cdf");
  }
  return std::unique_ptr<Strategy>(new SpargeStrategy(options));
}

}  // namespace flashomni

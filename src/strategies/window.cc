// SPDX-License-Identifier: Apache-2.0
//
// Static sliding window: a query block sees the kv blocks whose token interval comes within
// `window` tokens of its own (a superset of the token-exact window).
#include "strategies/options.h"
#include "strategies/static_pattern.h"
#include "strategies/token_gap.h"

namespace flashomni {
namespace {

class WindowStrategy : public strategies::StaticStrategy {
 public:
  explicit WindowStrategy(const WindowOptions& o)
      : StaticStrategy(o.block_q, o.block_kv, o.schedule), o_(o) {}
  const char* name() const override { return "window"; }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = c.residual = o_.residual;
    c.order = o_.order;
    return c;
  }

 protected:
  SparseSymbols pattern(const SequenceInfo& s) const override {
    return strategies::make_pattern(s, block_q_, block_kv_, o_.protect_text, [&](int i, int j) {
      return strategies::token_gap(s, block_q_, i, block_kv_, j) <= o_.window;
    });
  }

 private:
  WindowOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_window(const WindowOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new WindowStrategy(options));
}

}  // namespace flashomni

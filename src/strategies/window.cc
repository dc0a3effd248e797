// SPDX-License-Identifier: Apache-2.0
//
// Static sliding window: a query block sees the kv blocks whose token interval comes within
// `window` tokens of its own (a superset of the token-exact window).
#include <algorithm>

#include "strategies/options.h"
#include "strategies/static_pattern.h"

namespace flashomni {
namespace {

class WindowStrategy : public strategies::StaticStrategy {
 public:
  explicit WindowStrategy(const WindowOptions& o)
      : StaticStrategy(o.block_q, o.block_kv, o.schedule), o_(o) {}
  const char* name() const override { return "window"; }

 protected:
  SparseSymbols pattern(const SequenceInfo& s) const override {
    return strategies::make_pattern(s, block_q_, block_kv_, o_.protect_text, [&](int i, int j) {
      const int64_t q_begin = int64_t{i} * block_q_, k_begin = int64_t{j} * block_kv_;
      const int64_t q_last = std::min<int64_t>(s.tokens, q_begin + block_q_) - 1;
      const int64_t k_last = std::min<int64_t>(s.tokens, k_begin + block_kv_) - 1;
      const int64_t gap = std::max(q_begin - k_last, k_begin - q_last);
      return gap <= o_.window;
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

// SPDX-License-Identifier: Apache-2.0
//
// TaylorSeer; see TaylorSeerOptions. In symbols: every layer degraded, with order O.
#include "flashomni/strategies.h"
#include "strategies/module_cache.h"

namespace flashomni {
namespace {

class TaylorSeerStrategy : public strategies::ModuleCacheStrategy {
 public:
  explicit TaylorSeerStrategy(const TaylorSeerOptions& o)
      : ModuleCacheStrategy(o.schedule, o.order) {}
  const char* name() const override { return "taylorseer"; }
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_taylorseer(const TaylorSeerOptions& options) {
  return std::unique_ptr<Strategy>(new TaylorSeerStrategy(options));
}

}  // namespace flashomni

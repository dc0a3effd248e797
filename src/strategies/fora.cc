// SPDX-License-Identifier: Apache-2.0
//
// FORA; see ForaOptions. In symbols: every layer degraded (S_c = 0 everywhere) with order 0.
#include "flashomni/strategies.h"
#include "strategies/module_cache.h"

namespace flashomni {
namespace {

class ForaStrategy : public strategies::ModuleCacheStrategy {
 public:
  explicit ForaStrategy(const ForaOptions& o) : ModuleCacheStrategy(o.schedule, 0) {}
  const char* name() const override { return "fora"; }
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_fora(const ForaOptions& options) {
  return std::unique_ptr<Strategy>(new ForaStrategy(options));
}

}  // namespace flashomni

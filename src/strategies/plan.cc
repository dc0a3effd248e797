// SPDX-License-Identifier: Apache-2.0
//
// A plan table as given; see PlanOptions.
#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/plan_strategy.h"

namespace flashomni {
namespace {

using strategies::PlanRule;

class TablePlanStrategy : public strategies::PlanStrategy {
 public:
  TablePlanStrategy(const PlanOptions& o, std::vector<PlanRule> rules)
      : PlanStrategy({o.order, o.residual, o.block_q, o.block_kv, o.protect_text}),
        plan_steps_(o.plan_steps),
        rules_(std::move(rules)) {}
  const char* name() const override { return "plan"; }

 protected:
  Status fill(const RunInfo&, strategies::PlanTable& table) const override {
    return table.apply(rules_, plan_steps_);
  }

 private:
  int plan_steps_;
  std::vector<PlanRule> rules_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_plan(const PlanOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_ASSIGN_OR_RETURN(std::vector<PlanRule> rules, strategies::parse_plan(options.plan));
  return std::unique_ptr<Strategy>(new TablePlanStrategy(options, std::move(rules)));
}

}  // namespace flashomni

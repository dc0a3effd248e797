// SPDX-License-Identifier: Apache-2.0
//
// FlashOmni steered by measured forecast errors; see AdaptiveOptions. The budget is kept exactly
// where the error of the coming steps is that of the last measurement, scaled from the distance it
// was measured at to the steps ahead: a forecast of order D is off by about distance^(D+1).
#include <algorithm>
#include <cmath>
#include <vector>

#include "flashomni/strategies.h"
#include "strategies/flashomni_policy.h"
#include "strategies/options.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

class AdaptiveStrategy : public Strategy {
 public:
  explicit AdaptiveStrategy(const AdaptiveOptions& o) : o_(o) {}
  const char* name() const override { return "flashomni-adaptive"; }
  int block_q() const override { return o_.block_q; }
  int block_kv() const override { return o_.block_kv; }

  Status begin_run(const RunInfo& run) override {
    ScheduleOptions schedule = o_.schedule;
    schedule.interval = static_cast<int>(std::lround(schedule.interval * (1 + 2 * slack())));
    schedule_ = strategies::UpdateSchedule(schedule, run.steps);
    layers_ = run.layers;
    const double ahead = std::max(1, schedule_.interval() - 1);
    double sum = 0;
    for (int x = 1; x <= int(ahead); ++x) sum += std::pow(x, o_.order + 1);
    mean_power_ = sum / ahead;
    errors_.assign(size_t(run.layers) * size_t(run.streams), -1.0);
    reused_.assign(errors_.size(), 0);
    return ok_status();
  }
  std::string dense_reason() const override {
    return budget() > 0 ? "" : "quality 1 leaves no error to spend";
  }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = true;
    c.order = o_.order;
    c.modules = o_.reuse_margin > 0;
    c.degrade_order = o_.degrade_order;
    c.measure_forecast = true;
    // One step more than the order needs, so that the first Update already knows an error.
    c.refresh_full_from =
        std::max(0, schedule_.warmup() - 2 - std::max(o_.order, o_.degrade_order));
    return c;
  }
  size_t scratch_bytes(const SequenceInfo& s) const override {
    return strategies::policy_scratch_bytes(s, o_.block_q, o_.block_kv);
  }
  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }
  LayerAction layer_action(const StepContext& step, int layer, int stream) override {
    const bool reuse =
        schedule_.kind(step.step) == StepKind::kDispatch && reused_[at(layer, stream)];
    return reuse ? LayerAction::kReuse : LayerAction::kFollow;
  }

  void feedback(const StepContext&, int layer, int stream, int distance,
                double forecast_error) override {
    const double scale = mean_power_ / std::pow(std::max(1, distance), o_.order + 1);
    errors_[at(layer, stream)] = forecast_error * scale;
    reused_[at(layer, stream)] =
        o_.reuse_margin > 0 && forecast_error * scale * o_.reuse_margin < budget();
  }

  Status build(const BuildContext& c, SymbolsView out) override {
    strategies::PolicyOptions p;
    p.pooling = {o_.block_q, o_.block_kv};
    p.row_score = strategies::RowScore::kForecastError;
    p.protect_text = o_.protect_text;
    const double error = errors_[at(c.layer, c.stream)];
    // The share of the error that caching may bring in; nothing before the first measurement.
    if (budget() > 0 && error >= 0) p.theta_q = std::min(1.0, budget() / std::max(error, 1e-12));
    if (o_.tau_kv > 0 && o_.quality < 1) p.theta_kv = o_.tau_kv * slack();
    return strategies::build_policy(c, p, out);
  }

 private:
  double slack() const { return (1 - o_.quality) * (1 - o_.quality); }
  double budget() const { return o_.error_budget * slack(); }
  size_t at(int layer, int stream) const {
    return size_t(stream) * size_t(layers_) + size_t(layer);
  }

  AdaptiveOptions o_;
  strategies::UpdateSchedule schedule_;
  int layers_ = 0;
  double mean_power_ = 1;       // mean over the steps ahead of distance^(D+1)
  std::vector<double> errors_;  // expected over the steps ahead; below 0 before a measurement
  std::vector<char> reused_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_flashomni_adaptive(const AdaptiveOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new AdaptiveStrategy(options));
}

}  // namespace flashomni

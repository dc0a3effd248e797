// SPDX-License-Identifier: Apache-2.0
//
// The paper's policy (arXiv 2509.25401, FLUX form of the authors' example), with the intended
// image-to-text term, per-head order and protected text; see FlashOmniOptions.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/flashomni_policy.h"
#include "strategies/options.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

using strategies::ExtendedSchedule;
using strategies::RowScore;
using strategies::UpdateSchedule;

class FlashOmniStrategy : public Strategy {
 public:
  FlashOmniStrategy(const FlashOmniOptions& options, RowScore row_score)
      : o_(options), row_score_(row_score) {}

  const char* name() const override { return "flashomni"; }
  int block_q() const override { return o_.block_q; }
  int block_kv() const override { return o_.block_kv; }

  Status begin_run(const RunInfo& run) override {
    const int of = o_.schedule.schedule_steps;
    schedule_ = ExtendedSchedule(UpdateSchedule(o_.schedule, run.steps),
                                 of > 0 ? o_.extra_updates * run.steps / of : o_.extra_updates,
                                 std::max(1, run.layers));
    has_text_ = run.sequence.text_end > run.sequence.text_begin;
    return ok_status();
  }

  std::string dense_reason() const override {
    if (o_.tau_q <= 0 && o_.tau_kv <= 0) return "tau_q and tau_kv are both 0";
    if (!caches_rows() && o_.tau_kv <= 0) {
      return "the sequence holds no text, so no row can be scored for caching, and tau_kv is 0";
    }
    return {};
  }

  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = caches_rows() || o_.residual;
    c.order = o_.residual ? 0 : o_.order;
    c.residual = o_.residual;
    // Both look at what the features held before the Update.
    c.measure_forecast = caches_rows() && (row_score_ == RowScore::kForecastError ||
                                           row_score_ == RowScore::kChange);
    // Where all rows are computed, only the bound of 1 is met: degrade at once.
    c.degrade = o_.S_q > 0 && o_.tau_q > 0 && (caches_rows() || o_.S_q >= 1);
    c.degrade_density = o_.S_q;
    c.degrade_order = o_.degrade_order;
    // A residual is of an Update's symbols; dense steps before the first have none.
    if (o_.prime && (c.features || c.degrade) && !o_.residual) {
      const int depth = std::max(o_.order, c.degrade ? o_.degrade_order : 0);
      c.refresh_full_from = std::max(0, schedule_.warmup() - 1 - depth);
    }
    return c;
  }

  size_t scratch_bytes(const SequenceInfo& s) const override {
    return strategies::policy_scratch_bytes(s, o_.block_q, o_.block_kv);
  }

  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }
  LayerAction layer_action(const StepContext& step, int layer, int) override {
    return schedule_.action(step.step, layer);
  }

  Status build(const BuildContext& c, SymbolsView out) override {
    const double progress = std::pow(double(c.step.step) / c.step.steps, o_.ramp);
    strategies::PolicyOptions p;
    p.pooling = {o_.block_q, o_.block_kv, o_.smooth_k, o_.sim_gate, o_.theta_sim};
    p.row_score = row_score_;
    p.text_mode = o_.text_score == "softmax_of_sum" ? TextScoreMode::kSoftmaxOfSum
                                                    : TextScoreMode::kMeanOfSoftmaxes;
    p.protect_text = o_.protect_text;
    // A threshold of exactly 0 still drops blocks whose weight underflows to 0; "off" must not.
    if (caches_rows()) p.theta_q = o_.tau_q * progress;
    if (o_.tau_kv > 0) p.theta_kv = o_.tau_kv * progress;
    return strategies::build_policy(c, p, out);
  }

 private:
  // Without text nothing says what a row is worth by the paper's score, so all are computed and
  // nothing is kept for them.
  bool caches_rows() const { return o_.tau_q > 0 && (has_text_ || row_score_ != RowScore::kText); }

  FlashOmniOptions o_;
  RowScore row_score_;
  ExtendedSchedule schedule_;
  bool has_text_ = true;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_flashomni(const FlashOmniOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  if (options.text_score != "mean_of_softmaxes" && options.text_score != "softmax_of_sum") {
    return invalid_argument("text_score is '" + options.text_score +
                            "', wanted mean_of_softmaxes or softmax_of_sum");
  }
  FO_ASSIGN_OR_RETURN(const RowScore row_score, strategies::parse_row_score(options.row_score));
  if (options.residual &&
      (row_score == RowScore::kForecastError || row_score == RowScore::kChange)) {
    return invalid_argument("residual with row_score " + options.row_score +
                            ", wanted one of them: with a residual no output is kept");
  }
  return std::unique_ptr<Strategy>(new FlashOmniStrategy(options, row_score));
}

}  // namespace flashomni

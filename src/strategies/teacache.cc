// SPDX-License-Identifier: Apache-2.0
//
// TeaCache; see TeaCacheOptions. The first and the last step are computed. Where a polynomial gives
// a negative value nothing is added (some published ones go below zero).
#include <algorithm>
#include <array>
#include <string_view>

#include "flashomni/strategies.h"
#include "strategies/step_skip.h"

namespace flashomni {
namespace {

// Highest power first, from ali-vilab/TeaCache.
struct Fit {
  std::string_view name;
  std::array<double, 5> coefficients;
};
constexpr Fit kFits[] = {
    {"none", {0, 0, 0, 1, 0}},
    {"flux", {498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861}},
    {"hunyuan_video", {733.226126, -401.131952, 67.5869174, -3.149878, 0.0961237896}},
    {"wan_t2v_1.3b", {2396.76752, -1311.10545, 201.331979, -8.29855975, 0.137887774}},
    {"wan_t2v_14b", {-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404}},
    {"wan_i2v_480p", {-302.331670, 223.948934, -52.5463970, 5.87348440, -0.201973289}},
    {"wan_i2v_720p", {-114.36346466, 65.26524496, -18.82220707, 4.91518089, -0.23412683}},
};

const Fit* find_fit(const std::string& name) {
  for (const Fit& f : kFits) {
    if (f.name == name) return &f;
  }
  return nullptr;
}

class TeaCacheStrategy : public strategies::StepSkipStrategy {
 public:
  TeaCacheStrategy(const TeaCacheOptions& o, const Fit& fit) : o_(o), fit_(fit) {}
  const char* name() const override { return "teacache"; }
  Status begin_run(const RunInfo&) override {
    sum_ = 0;
    return ok_status();
  }
  std::string dense_reason() const override {
    return o_.threshold > 0 ? "" : "threshold is 0, so that no step is skipped";
  }
  SkipSpec skip_spec() const override {
    return {.enabled = true, .probe = SkipProbe::kModulatedInput, .order = o_.order};
  }
  bool skip_model(const StepContext& step, double change) override {
    if (change < 0 || step.step == 0 || step.step == step.steps - 1) {
      sum_ = 0;
      return false;
    }
    double rescaled = 0;
    for (const double c : fit_.coefficients) rescaled = rescaled * change + c;
    sum_ += std::max(0.0, rescaled);
    if (sum_ < o_.threshold) return true;
    sum_ = 0;
    return false;
  }

 private:
  TeaCacheOptions o_;
  const Fit& fit_;
  double sum_ = 0;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_teacache(const TeaCacheOptions& options) {
  const Fit* fit = find_fit(options.coefficients);
  if (!fit) {
    std::string known;
    for (const Fit& f : kFits) known += (known.empty() ? "" : ", ") + std::string(f.name);
    return invalid_argument("coefficients is '" + options.coefficients + "', wanted one of " +
                            known);
  }
  return std::unique_ptr<Strategy>(new TeaCacheStrategy(options, *fit));
}

}  // namespace flashomni

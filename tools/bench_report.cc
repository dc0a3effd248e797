// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_report.h"

#include <array>
#include <cstdio>
#include <ctime>

#include "flashomni/version.h"
#include "pipelines/run_json.h"
#include "tools/runtime.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

}  // namespace

double active_flops(const BenchRow& r) {
  return r.ms_median > 0 ? 1e3 * r.flops / r.ms_median : 0;
}

json row_json(const BenchRow& r, const std::string& device) {
  std::vector<double> ms;
  for (const double s : r.seconds) ms.push_back(1e3 * s);
  json out = {{"op", r.op},
              {"device", device},
              {"dtype", r.dtype},
              {"n", r.n},
              {"heads", r.heads},
              {"head_dim", r.head_dim},
              {"in_features", r.in_features},
              {"out_features", r.out_features},
              {"block_q", r.block_q},
              {"block_kv", r.block_kv},
              {"pattern", r.pattern},
              {"sparsity", r.sparsity},
              {"ms_median", r.ms_median},
              {"ms_p10", r.ms_p10},
              {"ms_p90", r.ms_p90},
              {"ms_samples", ms},
              {"repeats", r.seconds.size()},
              {"tflops_active", active_flops(r) * 1e-12},
              {"speedup_vs_dense", r.speedup_vs_dense},
              {"efficiency", r.efficiency},
              {"baselines", json::object()}};
  if (!r.step.empty()) {
    out["step"] = r.step;
    out["calls"] = r.calls;
  }
  return out;
}

json bench_json(const std::string& command, const BackendInfo& info, double peak_flops,
                const std::vector<BenchRow>& rows) {
  json out = {
      {"command", command},   {"version", version()},          {"commit", build_commit()},
      {"date", utc_now()},    {"machine", machine_json(info)}, {"peak_tflops", peak_flops * 1e-12},
      {"rows", json::array()}};
  for (const BenchRow& r : rows) out["rows"].push_back(row_json(r, info.name));
  return out;
}

std::string machine_text(const BackendInfo& info, double peak_flops) {
  std::string out = info.device + ", " + info.isa;
  if (info.name == "cpu") out += ", " + std::to_string(info.threads) + " threads";
  if (peak_flops > 0) out += ", " + fixed(peak_flops * 1e-9, 0) + " GFLOP/s multiply-add peak";
  return out + "\n";
}

std::string rate_text(double flops_per_second) {
  return flops_per_second > 0 ? fixed(flops_per_second * 1e-9, 0) : "-";
}

std::string share_of_peak_text(double flops_per_second, double peak_flops) {
  return flops_per_second > 0 && peak_flops > 0 ? percent(flops_per_second / peak_flops) : "-";
}

std::string rows_text(const std::vector<BenchRow>& rows, double peak_flops) {
  Table table({"op", "pattern", "sparsity", "ms", "p10", "p90", "GFLOP/s", "of peak", "speed-up",
               "efficiency"},
              {0, 1});
  for (const BenchRow& r : rows) {
    const double rate = active_flops(r);
    table.add({r.op, r.pattern, fixed(r.sparsity, 3), fixed(r.ms_median, 3), fixed(r.ms_p10, 3),
               fixed(r.ms_p90, 3), rate_text(rate), share_of_peak_text(rate, peak_flops),
               fixed(r.speedup_vs_dense, 2), fixed(r.efficiency, 3)});
  }
  return table.text();
}

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// What `flashomni bench` says, whatever it timed: the JSON document and the table of its rows.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flashomni/backend.h"
#include "tools/bench_cases.h"

namespace flashomni::tools {

// FLOP/s of the work that was really done.
double active_flops(const BenchRow& row);

nlohmann::json row_json(const BenchRow& row, const std::string& device);
// {"command", "version", "commit", "date", "machine", "peak_tflops", "rows"}.
nlohmann::json bench_json(const std::string& command, const BackendInfo& info, double peak_flops,
                          const std::vector<BenchRow>& rows);

// Device, threads and peak on one line.
std::string machine_text(const BackendInfo& info, double peak_flops);
std::string rows_text(const std::vector<BenchRow>& rows, double peak_flops);
// "-" where there are no FLOPs or no peak.
std::string rate_text(double flops_per_second);
std::string share_of_peak_text(double flops_per_second, double peak_flops);

}  // namespace flashomni::tools

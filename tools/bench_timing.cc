// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_timing.h"

#include <algorithm>
#include <chrono>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

namespace flashomni::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWarmUpSeconds = 50e-3;  // of a case: caches, pages, and clocks under vectors

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double percentile(std::vector<double> sorted, double p) {
  const double at = p * double(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - double(low)) * (sorted[high] - sorted[low]);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// Median over the rounds of dense over sparse seconds: a clock that drifts between rounds, or a
// neighbour that comes and goes, divides out.
double paired_speedup(const BenchRow& dense, const BenchRow& row) {
  std::vector<double> ratios;
  for (size_t r = 0; r < row.seconds.size(); ++r) {
    ratios.push_back(dense.seconds[r] / row.seconds[r]);
  }
  return median(ratios);
}

void fill_statistics(std::vector<BenchCase>& cases, double bandwidth) {
  for (BenchCase& c : cases) {
    c.row.speedup_vs_dense = paired_speedup(cases.front().row, c.row);
  }
  for (BenchCase& c : cases) fill_percentiles(c.row);
  for (BenchCase& c : cases) {
    BenchRow& row = c.row;
    const BenchRow& dense = cases.front().row;
    row.efficiency = row.speedup_vs_dense * (1 - row.sparsity);
    if (row.bytes > 0 && bandwidth > 0) {
      // The least time: computing what is left at the dense rate, or moving what must move.
      const double compute = row.flops / dense.flops;
      const double memory = 1e3 * row.bytes / bandwidth / dense.ms_median;
      row.efficiency = std::max(compute, memory) * row.speedup_vs_dense;
    }
  }
}

Status warm_up(Backend& backend, const BenchCase& c) {
  const Clock::time_point start = Clock::now();
  do {
    FO_RETURN_IF_ERROR(c.run());
    FO_RETURN_IF_ERROR(backend.synchronize({}));
  } while (seconds_since(start) < kWarmUpSeconds);
  return ok_status();
}

}  // namespace

void fill_percentiles(BenchRow& row) {
  std::sort(row.seconds.begin(), row.seconds.end());
  row.ms_median = 1e3 * percentile(row.seconds, 0.5);
  row.ms_p10 = 1e3 * percentile(row.seconds, 0.1);
  row.ms_p90 = 1e3 * percentile(row.seconds, 0.9);
}

Result<double> time_cases(Backend& backend, std::vector<BenchCase>& cases, int repeats,
                          double bandwidth, const std::function<bool()>& stop) {
  constexpr double kSampleSeconds = 4e-3;
  constexpr int kMaxCalls = 64;
  const bool queues = backend.info().name != "cpu";  // calls return before they are done
  std::vector<int> calls(cases.size(), 1);
  std::vector<double> peaks;
  for (int r = -2; r < repeats; ++r) {  // below 0: warm-up, and how long a call takes
    for (size_t i = 0; i < cases.size(); ++i) {
      if (stop()) return cancelled("stopped");
      if (r == -1 && !queues) continue;
      const Clock::time_point start = Clock::now();
      for (int k = 0; k < calls[i]; ++k) FO_RETURN_IF_ERROR(cases[i].run());
      while (r == -2 && !queues && seconds_since(start) < kWarmUpSeconds) {
        FO_RETURN_IF_ERROR(cases[i].run());
      }
      if (queues) FO_RETURN_IF_ERROR(backend.synchronize({}));
      const double seconds = seconds_since(start) / calls[i];
      if (r >= 0) cases[i].row.seconds.push_back(seconds);
      if (r == -1) {
        calls[i] = std::clamp(static_cast<int>(kSampleSeconds / seconds), 1, kMaxCalls);
      }
    }
    if (r >= 0) peaks.push_back(backend.measure_peak_flops());
  }
  fill_statistics(cases, bandwidth);
  return median(peaks);
}

Result<double> time_on_request(Backend& backend, std::vector<BenchCase>& cases, int repeats,
                               double bandwidth, std::istream& requests, std::ostream& answers,
                               const std::function<bool()>& stop) {
  for (BenchCase& c : cases) FO_RETURN_IF_ERROR(warm_up(backend, c));
  std::vector<double> peaks;
  std::string request;
  while (std::getline(requests, request)) {
    nlohmann::json ms = nlohmann::json::array();
    for (BenchCase& c : cases) {
      FO_RETURN_IF_ERROR(c.run());
      FO_RETURN_IF_ERROR(backend.synchronize({}));
      nlohmann::json& of_case = ms.emplace_back(nlohmann::json::array());
      for (int r = 0; r < repeats; ++r) {
        if (stop()) return cancelled("stopped");
        const Clock::time_point start = Clock::now();
        FO_RETURN_IF_ERROR(c.run());
        FO_RETURN_IF_ERROR(backend.synchronize({}));
        c.row.seconds.push_back(seconds_since(start));
        of_case.push_back(1e3 * c.row.seconds.back());
      }
    }
    peaks.push_back(backend.measure_peak_flops());
    answers << ms.dump() << std::endl;  // the other side waits for it
  }
  if (peaks.empty()) return invalid_argument("standard input ended before the first request");
  fill_statistics(cases, bandwidth);
  return median(peaks);
}

Result<double> measure_bandwidth(Backend& backend) {
  constexpr int64_t kBytes = int64_t{256} << 20;
  FO_ASSIGN_OR_RETURN(auto a, backend.allocate(kBytes));
  FO_ASSIGN_OR_RETURN(auto b, backend.allocate(kBytes));
  const auto view = [](Buffer& m) {
    return TensorView::contiguous(m.data(), DType::kF32, {1, 1 << 14, kBytes / 4 >> 14});
  };
  FO_RETURN_IF_ERROR(
      backend.combine({}, {.x = view(*a), .a = 0.f, .out = view(*a)}));  // touch the pages
  std::vector<double> seconds;
  for (int r = 0; r < 5; ++r) {
    const Clock::time_point start = Clock::now();
    FO_RETURN_IF_ERROR(backend.copy({}, {.src = view(*a), .dst = view(*b)}));
    FO_RETURN_IF_ERROR(backend.synchronize({}));
    seconds.push_back(seconds_since(start));
  }
  std::sort(seconds.begin(), seconds.end());
  return 2.0 * kBytes / seconds[2];
}

}  // namespace flashomni::tools

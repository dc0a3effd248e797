// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_e2e.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "tools/bench_report.h"
#include "tools/bench_timing.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr char kGeneration[] = "generation";
constexpr char kWhole[] = "all";    // BenchRow::step of a whole generation
constexpr char kSetup[] = "setup";  // scope of what a generation does before its first step
constexpr int kWarmUpSteps = 2;
constexpr double kLongSeconds = 5;  // of a step: after it nothing is cold any more
constexpr StepKind kKinds[] = {StepKind::kFull, StepKind::kUpdate, StepKind::kDispatch};

// One operation over the steps of one kind in one generation.
struct OpSum {
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;  // dense-equivalent
};
using OpSums = std::map<std::string, OpSum>;

struct Generation {
  double seconds = 0;
  size_t activation_bytes = 0;
  std::map<StepKind, OpSums> ops;  // where it was profiled
  RunReport report;
};

struct Way {
  std::string pattern;
  std::optional<StrategyChoice> choice;  // none: dense
  EngineOptions engine;
  int block_q = 0, block_kv = 0;
  std::vector<Generation> generations;
  std::vector<Generation> apart;  // profiled ones, when the timed ones are not
  const std::vector<Generation>& profiled() const { return apart.empty() ? generations : apart; }
};

// A whole generation, or the first `last` steps of one.
Result<Generation> generate(ProfilingBackend& profiler, const E2eModel& model, int steps,
                            const Way& way, const std::string& label, Progress& progress,
                            int last = std::numeric_limits<int>::max()) {
  if (stop_requested()) return cancelled("stopped before " + label);
  std::unique_ptr<Strategy> strategy;
  if (way.choice) {
    FO_ASSIGN_OR_RETURN(strategy, make_strategy(*way.choice));
  }
  profiler.clear();
  profiler.set_scope(kSetup);
  Generation out;
  const ProgressCallback shown = progress.track(label);
  const auto after_step = [&](const StepProgress& p) {
    for (const ProfileRow& r : profiler.rows()) {
      if (r.scope == kSetup) continue;  // not in the generation's seconds either
      OpSum& sum = out.ops[p.kind][r.op];
      sum.calls += r.calls;
      sum.seconds += r.seconds;
      sum.flops += r.flops;
    }
    profiler.clear();
    const bool warm = p.step >= last || (last < steps && p.seconds > kLongSeconds);
    return shown(p) && (!warm || p.step >= steps);
  };
  Result<E2eOutcome> result = model.run(steps, std::move(strategy), way.engine, after_step);
  progress.clear();
  const bool stopped_here = result.status().code() == StatusCode::kCancelled && !stop_requested();
  if (stopped_here && last < steps) return out;
  FO_RETURN_IF_ERROR(result.status());
  out.seconds = result->seconds;
  out.activation_bytes = result->activation_bytes;
  out.report = std::move(result->report);
  return out;
}

BenchRow empty_row(const E2eModel& model, const Way& way) {
  BenchRow r;
  r.pattern = way.pattern;
  r.dtype = dtype_name(model.dtype);
  r.n = model.tokens;
  r.heads = model.heads;
  r.head_dim = model.head_dim;
  r.block_q = way.block_q;
  r.block_kv = way.block_kv;
  return r;
}

int64_t count_steps(const RunReport& report, StepKind kind) {
  return std::count_if(report.steps.begin(), report.steps.end(),
                       [kind](const StepRecord& s) { return s.kind == kind; });
}

// Of a profiled dense generation, per step: all its steps are alike.
double dense_step_flops(const Generation& g) {
  double sum = 0;
  for (const auto& [kind, ops] : g.ops) {
    for (const auto& [name, op] : ops) sum += op.flops;
  }
  return sum / double(g.report.steps.size());
}

// Share of the dense FLOPs of one operation that was computed. Only operations of sparse layers
// leave something out, and all attention layers of a model are of one size.
class ActiveShare {
 public:
  explicit ActiveShare(const Generation& g) {
    int64_t layers = 0;
    for (const StepRecord& step : g.report.steps) {
      for (const LayerRecord& r : step.layers) {
        if (r.kind != LayerKind::kSparse) continue;
        pairs_ += r.counts.pair_density();
        rows_ += r.counts.row_density();
        ++layers;
      }
    }
    if (layers == 0) return;
    pairs_ /= double(layers);
    rows_ /= double(layers);
    gemm_qkv_ = 1 - (1 - rows_) / 3;
    // The attention part of GEMM-O is as large as the query projection, which may come with K and V
    // of the same size; the rest (an MLP) is always computed.
    const auto dispatch = g.ops.find(StepKind::kDispatch);
    if (dispatch == g.ops.end()) return;
    const auto flops = [&](const char* op) {
      const auto at = dispatch->second.find(op);
      return at == dispatch->second.end() ? 0.0 : at->second.flops;
    };
    const double q = flops("gemm_q sparse") + flops("gemm_qkv sparse") / 3;
    const double o = flops("gemm_o sparse");
    if (o > 0) gemm_o_ = 1 - (1 - rows_) * q / o;
  }
  double of(const std::string& op) const {
    if (op == "attention sparse") return pairs_;
    if (op == "gemm_q sparse") return rows_;
    if (op == "gemm_qkv sparse") return gemm_qkv_;
    return op == "gemm_o sparse" ? gemm_o_ : 1;
  }

 private:
  double pairs_ = 0, rows_ = 0, gemm_qkv_ = 1, gemm_o_ = 1;
};

void add_generation_rows(const Way& way, const BenchRow& empty, double whole_flops, E2eRun& run) {
  const RunReport& report = way.generations.back().report;
  const double steps = double(report.steps.size());
  BenchRow whole = empty;
  whole.op = kGeneration;
  whole.step = kWhole;
  whole.calls = 1;
  whole.sparsity = whole_flops > 0 ? report.flops_skipped / whole_flops : 0;
  whole.flops = whole_flops - report.flops_skipped;
  for (const Generation& g : way.generations) whole.seconds.push_back(g.seconds);
  run.rows.push_back(whole);
  for (const StepKind kind : kKinds) {
    const int64_t count = count_steps(report, kind);
    if (count == 0) continue;
    BenchRow step = empty;
    step.op = std::string(step_kind_name(kind)) + " step";
    step.step = step_kind_name(kind);
    step.calls = count;
    // Nothing but Dispatch steps skips.
    const double skipped = kind == StepKind::kDispatch ? report.flops_skipped / double(count) : 0;
    step.flops = whole_flops / steps - skipped;
    step.sparsity = whole_flops > 0 ? skipped * steps / whole_flops : 0;
    for (const Generation& g : way.generations) {
      for (const StepRecord& s : g.report.steps) {
        if (s.kind == kind) step.seconds.push_back(s.seconds);
      }
    }
    run.rows.push_back(step);
  }
}

void add_operation_rows(const Way& way, const BenchRow& empty, E2eRun& run) {
  const Generation& last = way.profiled().back();
  const RunReport& timed = way.generations.back().report;
  const ActiveShare share(last);
  // [operation][step]: the whole generation, then one step of each kind.
  std::map<std::string, std::map<std::string, BenchRow>> rows;
  const auto row_of = [&](const std::string& op, const std::string& step) -> BenchRow& {
    const auto [at, fresh] = rows[op].try_emplace(step, empty);
    BenchRow& r = at->second;
    if (fresh) {
      r.op = op;
      r.step = step;
      r.sparsity = 1 - share.of(op);
      r.speedup_vs_dense = r.efficiency = std::numeric_limits<double>::quiet_NaN();
    }
    return r;
  };
  for (const auto& [kind, ops] : last.ops) {
    const int64_t profiled = count_steps(last.report, kind), count = count_steps(timed, kind);
    for (const auto& [op, sum] : ops) {
      BenchRow& step = row_of(op, step_kind_name(kind));
      step.calls = sum.calls / profiled * count;
      step.flops = share.of(op) * sum.flops / double(profiled);
      BenchRow& whole = row_of(op, kWhole);
      whole.calls += step.calls;
      whole.flops += step.flops * double(count);
    }
  }
  for (const Generation& g : way.profiled()) {
    std::map<std::string, double> seconds;
    for (const auto& [kind, ops] : g.ops) {
      const double profiled = double(count_steps(g.report, kind));
      for (const auto& [op, sum] : ops) {
        row_of(op, step_kind_name(kind)).seconds.push_back(sum.seconds / profiled);
        seconds[op] += sum.seconds / profiled * double(count_steps(timed, kind));
      }
    }
    for (const auto& [op, s] : seconds) row_of(op, kWhole).seconds.push_back(s);
  }

  std::vector<std::vector<BenchRow>> ops;
  for (auto& [op, by_step] : rows) {
    std::vector<BenchRow> list = {by_step[kWhole]};
    for (const StepKind kind : kKinds) {
      const auto at = by_step.find(step_kind_name(kind));
      if (at != by_step.end()) list.push_back(at->second);
    }
    for (BenchRow& r : list) fill_percentiles(r);
    ops.push_back(std::move(list));
  }
  std::stable_sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) {
    return a.front().ms_median > b.front().ms_median;
  });
  for (const auto& list : ops) run.rows.insert(run.rows.end(), list.begin(), list.end());
}

}  // namespace

Result<std::vector<E2eRun>> time_generations(ProfilingBackend& profiler, const E2eModel& model,
                                             const std::vector<E2eWay>& others,
                                             const E2eOptions& options, Progress& progress) {
  std::vector<Way> ways = {{.pattern = "dense", .engine = options.dense_engine}};
  for (const E2eWay& w : others) {
    FO_ASSIGN_OR_RETURN(const std::unique_ptr<Strategy> strategy, make_strategy(w.choice));
    ways.push_back({.pattern = w.pattern,
                    .choice = w.choice,
                    .engine = w.engine,
                    .block_q = strategy->block_q(),
                    .block_kv = strategy->block_kv()});
  }
  const bool apart = options.profiled_steps > 0;
  profiler.set_enabled(!apart);
  // Code, weights and caches are touched once before anything is timed.
  for (const Way& way : ways) {
    const std::string label = "warm-up " + way.pattern;
    FO_RETURN_IF_ERROR(
        generate(profiler, model, model.steps, way, label, progress, kWarmUpSteps).status());
    if (!options.try_all) break;
  }
  for (int r = 0; r < options.repeats; ++r) {
    for (Way& way : ways) {
      const std::string label = std::to_string(r + 1) + " " + way.pattern;
      FO_ASSIGN_OR_RETURN(Generation g,
                          generate(profiler, model, model.steps, way, label, progress));
      way.generations.push_back(std::move(g));
    }
  }
  if (apart) {
    profiler.set_enabled(true);
    const int steps = std::min(model.steps, options.profiled_steps);
    for (Way& way : ways) {
      FO_ASSIGN_OR_RETURN(
          Generation g, generate(profiler, model, steps, way, "profile " + way.pattern, progress));
      way.apart.push_back(std::move(g));
    }
  }

  const double whole_flops = dense_step_flops(ways[0].profiled().back()) * model.steps;
  std::vector<E2eRun> runs;
  for (const Way& way : ways) {
    const Generation& last = way.generations.back();
    E2eRun run{.pattern = way.pattern,
               .rows = {},
               .report = last.report,
               .activation_bytes = last.activation_bytes};
    const BenchRow empty = empty_row(model, way);
    add_generation_rows(way, empty, whole_flops, run);
    for (size_t i = 0; i < run.rows.size(); ++i) {
      BenchRow& r = run.rows[i];
      fill_percentiles(r);
      // A generation against the dense generation, a step against the dense (Full) step.
      const std::vector<BenchRow>& dense = runs.empty() ? run.rows : runs.front().rows;
      r.speedup_vs_dense = dense[i == 0 ? 0 : 1].ms_median / r.ms_median;
      r.efficiency = r.speedup_vs_dense * (1 - r.sparsity);
    }
    add_operation_rows(way, empty, run);
    runs.push_back(std::move(run));
  }
  return runs;
}

std::vector<BenchRow> generation_rows(const std::vector<E2eRun>& runs) {
  std::vector<BenchRow> out;
  for (const E2eRun& run : runs) {
    for (const BenchRow& r : run.rows) {
      if (r.op == kGeneration || r.op.ends_with(" step")) out.push_back(r);
    }
  }
  return out;
}

std::string operations_text(const E2eRun& run, double peak_flops) {
  Table table({"operation", "calls", "ms", "share", "per full step", "per update step",
               "per dispatch step", "GFLOP/s", "of peak"});
  const double total = run.rows.front().ms_median;
  double sum = 0;
  for (const BenchRow& whole : run.rows) {
    if (whole.step != kWhole || whole.op == kGeneration) continue;
    std::vector<std::string> cells = {whole.op, std::to_string(whole.calls),
                                      fixed(whole.ms_median, 1), percent(whole.ms_median / total)};
    for (const StepKind kind : kKinds) {
      const auto step = std::find_if(run.rows.begin(), run.rows.end(), [&](const BenchRow& r) {
        return r.op == whole.op && r.step == step_kind_name(kind);
      });
      cells.push_back(step != run.rows.end() ? fixed(step->ms_median, 2) : "-");
    }
    const double rate = active_flops(whole);
    cells.push_back(rate_text(rate));
    cells.push_back(share_of_peak_text(rate, peak_flops));
    table.add(std::move(cells));
    sum += whole.ms_median;
  }
  table.add({"everything else", "", fixed(total - sum, 1), percent(1 - sum / total), "-", "-", "-",
             "-", "-"});
  return table.text();
}

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench: times attention, GEMM-Q, GEMM-O, linears and symbol building on random data over
// a sweep of sparsities, and says how much of the sparsity becomes speed. Whole generations are
// cmd_bench_e2e.cc.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <iostream>

#include "io/json.h"
#include "pipelines/symbols_trace.h"
#include "tools/bench_cases.h"
#include "tools/bench_report.h"
#include "tools/bench_timing.h"
#include "tools/commands.h"
#include "tools/plot.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

struct Flags {
  std::string op;
  std::string dtype;  // empty: f32 on the CPU, bf16 on a GPU
  ModelFlags model;   // device flags only
  OutputFlags output;
  std::string plot;
  std::optional<int> n, heads, head_dim, block, repeats, in_features, out_features, planes;
  std::optional<uint64_t> seed;
  std::vector<std::string> patterns;
  std::vector<double> sparsities;
  bool dense_only = false;
  bool on_request = false;
  std::string replay;
  std::optional<int> replay_limit;
};

constexpr int kReplayLimit = 24;

BenchShape shape_of(const Flags& f) {
  BenchShape s;
  const bool gpu = f.model.device == "cuda";
  s.dtype = f.dtype == "f16"                                ? DType::kF16
            : f.dtype == "bf16" || (f.dtype.empty() && gpu) ? DType::kBF16
                                                            : DType::kF32;
  s.n = f.n.value_or(4608);
  s.heads = f.heads.value_or(24);
  s.head_dim = f.head_dim.value_or(128);
  s.block_q = s.block_kv = f.block.value_or(64);
  s.in_features = f.in_features.value_or(0);
  s.out_features = f.out_features.value_or(0);
  s.planes = f.planes.value_or(s.planes);
  s.seed = f.seed.value_or(1);
  return s;
}

Result<std::vector<BenchCase>> make_cases(const Flags& f, const BenchShape& s, Backend& backend) {
  const std::vector<double> sparsities = f.dense_only ? std::vector<double>{} : f.sparsities;
  if (f.op == "attention") return attention_cases(backend, s, f.patterns, sparsities);
  if (f.op == "gemm-q") return gemm_q_cases(backend, s, sparsities);
  if (f.op == "gemm-qkv") return gemm_qkv_cases(backend, s, sparsities);
  if (f.op == "gemm-o") return gemm_o_cases(backend, s, sparsities);
  if (f.op == "linear") return linear_cases(backend, s);
  return symbols_cases(backend, s);
}

// What the entries of a trace weigh, in the order of shape.replay.
struct Replay {
  std::vector<int> uses;
  size_t entries = 0;  // of the trace that were used in a step
};

// Makes the shape that of the trace, and its symbols those to time: evenly over the run, as many as
// asked for.
Result<Replay> load_replay(const Flags& f, BenchShape& shape) {
  FO_ASSIGN_OR_RETURN(SymbolTrace trace, load_trace(f.replay));
  std::vector<TraceEntry*> used;
  for (TraceEntry& e : trace.entries) {
    if (e.uses > 0) used.push_back(&e);
  }
  if (used.empty()) return invalid_argument(f.replay + ": no step ran with symbols of this trace");
  if (trace.head_dim < 2) {
    return invalid_argument(f.replay + ": head_dim is " + std::to_string(trace.head_dim));
  }
  const SymbolGeometry g = used.front()->symbols.geometry();
  if (g.batch != 1 || g.q_tokens != g.kv_tokens) {
    return unsupported(f.replay + ": symbols of batch " + std::to_string(g.batch) + ", " +
                       std::to_string(g.q_tokens) + " x " + std::to_string(g.kv_tokens) +
                       " tokens; bench times self-attention of batch 1");
  }
  shape.n = g.q_tokens;
  shape.heads = g.heads;
  shape.head_dim = trace.head_dim;
  shape.block_q = g.block_q;
  shape.block_kv = g.block_kv;
  const auto limit = static_cast<size_t>(f.replay_limit.value_or(kReplayLimit));
  const size_t count = limit == 0 ? used.size() : std::min(limit, used.size());
  Replay replay{{}, used.size()};
  for (size_t k = 0; k < count; ++k) {
    TraceEntry& e = *used[k * used.size() / count];
    if (e.symbols.geometry() != g) {
      return unsupported(f.replay + ": its symbols differ in geometry");
    }
    shape.replay.push_back({"step" + std::to_string(e.step) + ".layer" + std::to_string(e.layer) +
                                ".stream" + std::to_string(e.stream),
                            std::move(e.symbols)});
    replay.uses.push_back(e.uses);
  }
  return replay;
}

// Means over the replayed symbols, each as often as the run used it.
nlohmann::json replay_json(const Flags& f, const Replay& replay,
                           const std::vector<BenchCase>& cases) {
  double uses = 0, sparsity = 0, dense = 0, sparse = 0;
  for (size_t i = 0; i < replay.uses.size() && i + 1 < cases.size(); ++i) {
    const BenchRow& row = cases[i + 1].row;
    uses += replay.uses[i];
    sparsity += replay.uses[i] * row.sparsity;
    dense += replay.uses[i];
    sparse += replay.uses[i] / row.speedup_vs_dense;
  }
  return {{"file", f.replay},
          {"symbols", replay.entries},
          {"timed", replay.uses.size()},
          {"sparsity", sparsity / uses},
          {"speedup_vs_dense", dense / sparse},
          {"efficiency", dense / sparse * (1 - sparsity / uses)}};
}

Image plot_of(const std::vector<BenchCase>& cases, const BenchShape& s) {
  Plot plot;
  const BenchRow& dense = cases.front().row;
  plot.title = dense.op + ": n " + std::to_string(s.n) + ", " + std::to_string(s.heads) +
               " heads of " + std::to_string(s.head_dim) + ", blocks of " +
               std::to_string(s.block_q);
  plot.x_label = "sparsity";
  plot.y_label = "speed-up over dense";
  plot.x_ticks = {0, 0.25, 0.5, 0.75, 0.9, 1};
  plot.y_min = 1;
  plot.y_max = 12;
  plot.y_ticks = {1, 2, 4, 8};
  plot.log_y = true;
  PlotLine ideal{.name = "1/(1-s)", .dashed = true, .markers = false};
  for (double x = 0; x <= 0.91; x += 0.01) {
    ideal.x.push_back(x);
    ideal.y.push_back(1 / (1 - x));
  }
  for (size_t i = 1; i < cases.size(); ++i) {
    const BenchRow& r = cases[i].row;
    if (r.sparsity <= 0 || r.speedup_vs_dense < 1) continue;
    if (plot.lines.empty() || plot.lines.back().name != r.pattern) {
      plot.lines.push_back({.name = r.pattern, .x = {0}, .y = {1}});
    }
    plot.lines.back().x.push_back(r.sparsity);
    plot.lines.back().y.push_back(std::min(12.0, r.speedup_vs_dense));
  }
  plot.lines.push_back(ideal);
  return draw_plot(plot, 900, 620);
}

Status run(const Flags& f, const std::string& command) {
  FO_RETURN_IF_ERROR(check_optional_output(f.output.json));
  FO_RETURN_IF_ERROR(check_optional_output(f.plot));
  for (const double s : f.sparsities) {
    if (!(s >= 0 && s < 1)) {
      return invalid_argument("--sparsity is " + fixed(s, 3) + ", wanted 0 to below 1");
    }
  }
  BenchShape shape = shape_of(f);
  Replay replay;
  if (!f.replay.empty()) {
    if (f.op == "linear" || f.op == "symbols") {
      return invalid_argument("--replay has no meaning for " + f.op +
                              ", wanted attention, gemm-q, gemm-qkv or gemm-o");
    }
    FO_ASSIGN_OR_RETURN(replay, load_replay(f, shape));
  }
  FO_RETURN_IF_ERROR(check_shape(shape));
  install_stop_handler();
  // A GPU is timed when it is asked for: its kernels and element types are others.
  ModelFlags device = f.model;
  if (device.device == "auto") device.device = "cpu";
  FO_ASSIGN_OR_RETURN(auto backend, open_backend(device));
  FO_ASSIGN_OR_RETURN(std::vector<BenchCase> cases, make_cases(f, shape, *backend));
  double bandwidth = 0;
  if (f.op == "gemm-o") {
    FO_ASSIGN_OR_RETURN(bandwidth, measure_bandwidth(*backend));
  }
  const int repeats = f.repeats.value_or(7);
  FO_ASSIGN_OR_RETURN(const double peak,
                      f.on_request
                          ? time_on_request(*backend, cases, repeats, bandwidth, std::cin,
                                            std::cout, stop_requested)
                          : time_cases(*backend, cases, repeats, bandwidth, stop_requested));

  std::vector<BenchRow> rows;
  for (const BenchCase& c : cases) rows.push_back(c.row);
  if (!f.output.quiet && !f.on_request) {
    std::fputs(machine_text(backend->info(), peak).c_str(), stdout);
    if (bandwidth > 0) std::printf("copy bandwidth %.1f GB/s\n", bandwidth * 1e-9);
    std::fputs(rows_text(rows, peak).c_str(), stdout);
    if (!f.replay.empty()) {
      const nlohmann::json r = replay_json(f, replay, cases);
      std::printf(
          "replay of %s: %zu of its %zu symbols; as often as the run used them: %s left "
          "out, %sx as fast as dense, efficiency %s\n",
          f.replay.c_str(), replay.uses.size(), replay.entries,
          percent(r["sparsity"].get<double>()).c_str(),
          fixed(r["speedup_vs_dense"].get<double>(), 2).c_str(),
          fixed(r["efficiency"].get<double>(), 2).c_str());
    }
  }
  if (!f.plot.empty()) FO_RETURN_IF_ERROR(save_png(f.plot, plot_of(cases, shape)));
  if (f.output.json.empty()) return ok_status();
  nlohmann::json out = bench_json(command, backend->info(), peak, rows);
  if (bandwidth > 0) out["copy_gb_per_s"] = bandwidth * 1e-9;
  if (!f.replay.empty()) out["replay"] = replay_json(f, replay, cases);
  return write_json_file(f.output.json, out);
}

}  // namespace

void add_bench(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("bench", "time the kernels over a sweep of sparsities");
  auto flags = std::make_shared<Flags>();
  flags->patterns = {"s_s", "s_c"};
  flags->sparsities = {0.25, 0.5, 0.75, 0.9};
  sub->add_option("op", flags->op,
                  "attention, gemm-q, gemm-qkv, gemm-o, linear or symbols; or see e2e")
      ->type_name("OP")
      ->check(CLI::IsMember({"attention", "gemm-q", "gemm-qkv", "gemm-o", "linear", "symbols"}));
  add_number(*sub, "--n", flags->n, 1, "tokens (default 4608)");
  add_number(*sub, "--heads", flags->heads, 1, "heads (default 24)");
  add_number(*sub, "--head-dim", flags->head_dim, 2, "channels of a head (default 128)");
  add_number(*sub, "--block", flags->block, 32, "tokens per block, both ways (default 64)");
  sub->add_option("--dtype", flags->dtype, "f32, bf16 or f16 (default f32, on a GPU bf16)")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  add_number(*sub, "--in", flags->in_features, 1, "input features (default heads * head-dim)");
  add_number(*sub, "--out", flags->out_features, 1, "output features (default heads * head-dim)");
  sub->add_option("--planes", flags->planes, "bias planes that gemm-o adds, 1 to 4 (default 2)")
      ->type_name("N")
      ->check(CLI::Range(1, GemmOParams::kMaxPlanes));
  add_number(*sub, "--repeats", flags->repeats, 1, "timed repetitions (default 7)");
  add_number(*sub, "--seed", flags->seed, uint64_t{0}, "seed of data and symbols (default 1)");
  sub->add_option("--pattern", flags->patterns, "of attention: s_s, s_c, both, window")
      ->type_name("LIST")
      ->delimiter(',');
  sub->add_option("--sparsity", flags->sparsities, "shares to leave out (default .25,.5,.75,.9)")
      ->type_name("LIST")
      ->delimiter(',');
  sub->add_flag("--dense-only", flags->dense_only, "leave the sweep of sparsities out");
  sub->add_flag("--on-request", flags->on_request,
                "for scripts that time other programs in between: one round for each line on\n"
                "standard input, answered by a line of JSON with the milliseconds of every case");
  sub->add_option("--plot", flags->plot, "also draw speed-up over sparsity as a PNG")
      ->type_name("FILE");
  CLI::Option* replay =
      sub->add_option("--replay", flags->replay,
                      "time with the symbols of a run, saved by generate --trace-symbols")
          ->type_name("FILE");
  for (const char* other : {"--n", "--heads", "--head-dim", "--block", "--pattern", "--sparsity",
                            "--dense-only", "--plot"}) {
    replay->excludes(sub->get_option(other));
  }
  add_number(*sub, "--replay-limit", flags->replay_limit, 0,
             "most symbols of the trace to time, spread over the run (default 24; 0: all)")
      ->needs(replay);
  flags->model.add_device_to(*sub);
  flags->output.add_to(*sub);
  CLI::App* e2e = add_bench_e2e(*sub, line);
  sub->callback([sub, e2e, flags, &line] {
    if (e2e->parsed()) {
      for (const CLI::Option* o : sub->get_options()) {
        if (o->count() > 0)
          throw CLI::ValidationError(o->get_name() + " stands before e2e, wanted behind it");
      }
      return;
    }
    if (flags->op.empty()) throw CLI::RequiredError("OP");
    line.run = [flags, &line] { return run(*flags, line.text); };
  });
}

}  // namespace flashomni::tools

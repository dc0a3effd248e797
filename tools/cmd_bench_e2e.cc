// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench e2e: whole generations of a prompt, dense and with a strategy, and what each kind
// of step and of operation takes of them.
#include <charconv>
#include <cstdio>
#include <vector>

#include "base/byte_size.h"
#include "io/json.h"
#include "pipelines/bare_transformer.h"
#include "pipelines/run_json.h"
#include "tools/ablation.h"
#include "tools/bench_e2e.h"
#include "tools/bench_report.h"
#include "tools/commands.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/trajectory_pattern.h"

namespace flashomni::tools {
namespace {

constexpr int kProfiledSteps = 12;

struct Flags {
  std::string prompt = "3d red apple";
  std::optional<int> repeats, profiled_steps;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  EngineFlags engine;
  OutputFlags output;
  bool ablation = false;
  // Without a picture: random latents, and symbols of a stated pattern.
  bool random_weights = false;
  std::optional<int> frames, text_tokens, layers, warmup, interval, order, degrade_order, block;
  std::optional<double> sparsity;
  std::vector<std::string> splits, degraded;
};

struct Subject {
  E2eModel model;
  std::vector<E2eWay> ways;
  nlohmann::json about;  // of the document: model, settings, ways
};

Status run_subject(const Flags& flags, const Subject& subject, Backend& backend,
                   ProfilingBackend& profiler, const std::string& command_line) {
  const double peak = backend.measure_peak_flops();
  Progress progress(flags.output.quiet);
  const BackendInfo info = backend.info();
  E2eOptions options;
  options.repeats = flags.repeats.value_or(3);
  options.dense_engine = flags.engine.options();
  options.try_all = info.name != "cpu";
  options.profiled_steps = flags.profiled_steps.value_or(info.name == "cpu" ? 0 : kProfiledSteps);
  FO_ASSIGN_OR_RETURN(const std::vector<E2eRun> runs,
                      time_generations(profiler, subject.model, subject.ways, options, progress));

  if (!flags.output.quiet) {
    for (const E2eRun& r : runs) {
      print_fallbacks(r.report.fallbacks);
      print_cache_budget(r.report.cache_budget);
    }
    std::fputs(machine_text(info, peak).c_str(), stdout);
    std::fputs(rows_text(generation_rows(runs), peak).c_str(), stdout);
    for (const E2eRun& r : runs) {
      std::printf("%s: weights %s, activations %s, cache %s", r.pattern.c_str(),
                  byte_size_text(subject.model.weight_bytes).c_str(),
                  byte_size_text(r.activation_bytes).c_str(),
                  byte_size_text(r.report.peak_cache_bytes).c_str());
      if (r.report.free_bytes > 0) {
        std::printf(" of %s free for it", byte_size_text(r.report.free_bytes).c_str());
      }
      std::printf("\n");
    }
    for (const E2eRun& r : runs) {
      std::printf("\n%s: milliseconds per operation\n%s", r.pattern.c_str(),
                  operations_text(r, peak).c_str());
    }
  }
  if (flags.output.json.empty()) return ok_status();
  std::vector<BenchRow> rows;
  nlohmann::json reports = nlohmann::json::object();
  for (const E2eRun& r : runs) {
    rows.insert(rows.end(), r.rows.begin(), r.rows.end());
    nlohmann::json report = summary_json(r.report);
    report["memory"] = ledger_json(r.report.ledger);
    report["memory"]["activations"] = r.activation_bytes;
    report["memory"]["weights"] = subject.model.weight_bytes;
    report["memory"]["free_before_cache"] =
        r.report.free_bytes > 0 ? nlohmann::json(r.report.free_bytes) : nlohmann::json();
    report["memory"]["cache_peak"] = r.report.peak_cache_bytes;
    // In their order: what a step takes depends on the power that those before it drew.
    for (const StepRecord& step : r.report.steps) {
      report["steps"].push_back({{"kind", step_kind_name(step.kind)}, {"ms", 1e3 * step.seconds}});
    }
    reports[r.pattern] = std::move(report);
  }
  nlohmann::json doc = bench_json(command_line, info, peak, rows);
  doc.update(subject.about);
  doc["runs"] = std::move(reports);
  return write_json_file(flags.output.json, doc);
}

// `choice` under this name; with --ablation after runs that lack some of its parts.
void add_ways(const Flags& flags, const std::string& name, const StrategyChoice& choice,
              std::vector<E2eWay>& ways) {
  const EngineOptions engine = flags.engine.options();
  if (flags.ablation) {
    const std::vector<Stage> stages = ablation_stages(choice, engine);
    for (size_t i = 0; i + 1 < stages.size(); ++i) {
      ways.push_back({name + ": " + stages[i].name, stages[i].choice, stages[i].engine});
    }
  }
  ways.push_back({name, choice, engine});
}

Status run_pictures(const Flags& flags, const std::string& command_line) {
  FO_ASSIGN_OR_RETURN(Runtime runtime, open_runtime(flags.model, true));
  const TextToImageDefaults& defaults = runtime.pipeline->defaults();
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice, flags.strategy.resolve(defaults.family));
  FO_ASSIGN_OR_RETURN(const TextToImageRequest request,
                      flags.picture.request(flags.prompt, *runtime.pipeline));
  Subject s;
  if (choice.name != "dense") {
    add_ways(flags, choice.preset.empty() ? choice.name : choice.preset, choice, s.ways);
  }
  flux::FluxTransformer& transformer = runtime.pipeline->transformer();
  s.model.name = defaults.family;
  s.model.tokens = runtime.pipeline->text_encoder().max_length() +
                   int64_t{request.width / defaults.patch} * (request.height / defaults.patch);
  s.model.heads = transformer.config().num_attention_heads;
  s.model.head_dim = transformer.config().attention_head_dim;
  s.model.dtype = runtime.backend->activation_dtype();
  s.model.weight_bytes = transformer.weight_bytes();
  s.model.steps = request.steps;
  s.model.run = [&](int steps, std::unique_ptr<Strategy> strategy, const EngineOptions& engine,
                    const ProgressCallback& progress) -> Result<E2eOutcome> {
    TextToImageRequest r = request;
    r.steps = steps;
    FO_ASSIGN_OR_RETURN(TextToImageResult result,
                        runtime.pipeline->generate(r, std::move(strategy), engine, progress));
    return E2eOutcome{std::move(result.report), result.seconds, result.activation_bytes};
  };
  s.about = {{"model", json_head(command_line, runtime)["model"]},
             {"prompt", request.prompt},
             {"settings", request_json(request)},
             {"strategy", to_json(choice)}};
  return run_subject(flags, s, *runtime.backend, *runtime.profiler, command_line);
}

// "SHARE" or "SHARE:SPARSITY", two numbers from 0 to 1.
Status read_degraded(const std::string& text, TrajectoryPattern& p) {
  const size_t colon = text.find(':');
  const auto number = [](const std::string& part, double& out) {
    const auto end = std::from_chars(part.data(), part.data() + part.size(), out);
    return end.ec == std::errc() && end.ptr == part.data() + part.size() && out >= 0 && out <= 1;
  };
  const bool share = number(text.substr(0, colon), p.degraded);
  if (share && (colon == std::string::npos || number(text.substr(colon + 1), p.sparsity))) {
    return ok_status();
  }
  return invalid_argument("--degraded is '" + text +
                          "', wanted SHARE or SHARE:SPARSITY, numbers from 0 to 1");
}

Status run_bare(const Flags& flags, const std::string& command_line) {
  FO_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, open_backend(flags.model));
  ProfilingBackend profiler(*backend);
  BareTransformerOptions o;
  o.model = flags.model.model;
  o.random_weights = flags.random_weights;
  o.seed = flags.picture.seed.value_or(0);
  o.width = flags.picture.width.value_or(o.width);
  o.height = flags.picture.height.value_or(o.height);
  o.frames = flags.frames.value_or(o.frames);
  o.text_tokens = flags.text_tokens.value_or(0);
  o.layers = flags.layers.value_or(0);
  o.guidance = flags.picture.guidance.value_or(o.guidance);
  FO_ASSIGN_OR_RETURN(const std::unique_ptr<BareTransformer> model,
                      load_bare_transformer(profiler, o));
  const SequenceInfo sequence = model->sequence();
  TrajectoryPattern p;
  p.steps = flags.picture.steps.value_or(p.steps);
  p.sparsity = flags.sparsity.value_or(p.sparsity);
  p.warmup = flags.warmup.value_or(p.warmup);
  p.interval = flags.interval.value_or(p.interval);
  p.order = flags.order.value_or(p.order);
  p.block = flags.block.value_or(p.block);
  p.degrade_order = flags.degrade_order.value_or(p.degrade_order);

  Subject s;
  const std::vector<std::string> all = {"s_s", "s_c", "both"};
  nlohmann::json choices = nlohmann::json::object();
  const auto add = [&]() -> Status {
    FO_ASSIGN_OR_RETURN(E2eWay way, make_trajectory_way(p, sequence, model->layers()));
    FO_ASSIGN_OR_RETURN(way.choice, resolve_strategy(way.choice, model->family()));
    choices[way.pattern] = to_json(way.choice);
    add_ways(flags, way.pattern, way.choice, s.ways);
    return ok_status();
  };
  for (const std::string& split : flags.splits.empty() ? all : flags.splits) {
    p.split = split;
    FO_RETURN_IF_ERROR(add());
  }
  p.split = "both";
  for (const std::string& text : flags.degraded) {
    const double whole = p.sparsity;
    FO_RETURN_IF_ERROR(read_degraded(text, p));
    FO_RETURN_IF_ERROR(add());
    p.sparsity = whole;
  }
  s.model.name = model->name();
  s.model.tokens = sequence.tokens;
  s.model.heads = sequence.heads;
  s.model.head_dim = sequence.head_dim;
  s.model.dtype = backend->activation_dtype();
  s.model.weight_bytes = model->weight_bytes();
  s.model.steps = p.steps;
  s.model.run = [&](int steps, std::unique_ptr<Strategy> strategy, const EngineOptions& engine,
                    const ProgressCallback& progress) -> Result<E2eOutcome> {
    FO_ASSIGN_OR_RETURN(BareTransformerResult result,
                        model->run(steps, std::move(strategy), engine, progress));
    return E2eOutcome{std::move(result.report), result.seconds, result.activation_bytes};
  };
  s.about = {{"model",
              {{"name", model->name()},
               {"family", model->family()},
               {"parameters", model->parameters()},
               {"weights", flags.random_weights ? "random" : "checkpoint"}}},
             {"settings",
              {{"width", o.width},
               {"height", o.height},
               {"frames", o.frames},
               {"tokens", sequence.tokens},
               {"text_tokens", model->text()},
               {"guidance_streams", model->streams()},
               {"layers", model->layers()},
               {"steps", p.steps},
               {"seed", o.seed}}},
             {"strategies", choices}};
  if (!flags.output.quiet) {
    std::printf("%s, %.2f B parameters (%s weights), %d tokens, %d layers, %d steps\n",
                model->name().c_str(), 1e-9 * double(model->parameters()),
                flags.random_weights ? "random" : "its own", sequence.tokens, model->layers(),
                p.steps);
  }
  return run_subject(flags, s, *backend, profiler, command_line);
}

// A folder of a pipeline that draws pictures, or something else.
bool is_bare(const Flags& flags) {
  if (flags.random_weights) return true;
  if (flags.model.model.empty()) return false;
  return !find_model_folder(flags.model).ok();
}

Status run(const Flags& flags, const std::string& command_line) {
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  return is_bare(flags) ? run_bare(flags, command_line) : run_pictures(flags, command_line);
}

}  // namespace

CLI::App* add_bench_e2e(CLI::App& bench, CommandLine& line) {
  CLI::App* sub = bench.add_subcommand(
      "e2e", "time whole generations, dense and sparse, by kind of step and operation");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("prompt", flags->prompt, "what to draw (default '3d red apple')")
      ->type_name("PROMPT");
  add_number(*sub, "--repeats", flags->repeats, 1, "timed generations of each (default 3)");
  add_number(*sub, "--profiled-steps", flags->profiled_steps, 0,
             "time operations in a run of so many steps of their own, 0: in the timed runs "
             "(default: 0 on the CPU, 12 on a GPU, where it keeps kernels from overlapping)");
  sub->add_flag(
      "--random-weights", flags->random_weights,
      "seeded random weights for the transformer that --model names (a folder with "
      "config.json, flux.1-dev, flux.1-schnell, hunyuan-video, wan-1.3b, wan-14b): speed and "
      "memory only, no picture");
  add_number(*sub, "--frames", flags->frames, 1, "of a video (random weights; default 1)");
  add_number(*sub, "--text-tokens", flags->text_tokens, 1,
             "of the random text (default: what the model is used with)");
  add_number(*sub, "--layers", flags->layers, 1, "blocks of each kind (default: all)");
  sub->add_option("--pattern", flags->splits,
                  "where random symbols get their sparsity from: s_s, s_c, both (default: each)")
      ->delimiter(',')
      ->check(CLI::IsMember({"s_s", "s_c", "both"}));
  add_number(*sub, "--trajectory-sparsity", flags->sparsity, 0.0,
             "share of attention left out over all steps (random symbols; default 0.46)");
  sub->add_option("--degraded", flags->degraded,
                  "also with this share of layers degraded, half S_s and half S_c in the others; "
                  "SHARE:SPARSITY for a trajectory sparsity of its own")
      ->delimiter(',')
      ->type_name("LIST");
  add_number(*sub, "--warmup", flags->warmup, 1, "leading dense steps (default 8)");
  add_number(*sub, "--interval", flags->interval, 1, "steps from Update to Update (default 6)");
  add_number(*sub, "--order", flags->order, 0, "Taylor order of the features (default 1)");
  add_number(*sub, "--degrade-order", flags->degrade_order, 0,
             "Taylor order of degraded layers (default 0)");
  add_number(*sub, "--block", flags->block, 64, "tokens per block, 64 or 128 (default 128)");
  flags->picture.add_to(*sub);
  sub->add_flag("--ablation", flags->ablation,
                "also time each strategy with attention skipping only, then with GEMM-Q, then "
                "with GEMM-O but no degraded layers");
  flags->strategy.add_to(*sub);
  flags->engine.add_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return run(*flags, line.text); }; });
  return sub;
}

}  // namespace flashomni::tools

// SPDX-License-Identifier: Apache-2.0
//
// flashomni inspect: runs a prompt and shows what the strategy decided, as symbol maps, a heat map
// of sparsity over steps and layers, tables and saved symbols; or shows a file of saved symbols.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>

#include "flashomni/symbols.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "tools/commands.h"
#include "tools/inspect_file.h"
#include "tools/pictures.h"
#include "tools/progress.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr int kHeadsPerRow = 8;
constexpr int kHeadPixels = 160;  // aimed at, for one head's map
constexpr int kHeatMapCell = 16;  // pixels

struct Flags {
  std::string what;
  std::string out_dir = "out";
  std::string save_dir;
  std::string layers = "all", updates = "last", streams = "all";
  std::optional<int> head;
  bool ascii = false;
  std::vector<std::string> given;  // flags of the command line that mean nothing for a file
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  OutputFlags output;
};

// "0,2-4" or a word for a set that is not listed ("all", "last").
struct NumberList {
  std::string word;
  std::vector<int> numbers;

  bool contains(int n) const {
    return numbers.empty() || std::find(numbers.begin(), numbers.end(), n) != numbers.end();
  }
};

Result<NumberList> parse_list(const std::string& flag, const std::string& text,
                              const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), text) != words.end()) return NumberList{text, {}};
  NumberList list;
  const char* p = text.data();
  const char* const end = p + text.size();
  bool valid = true;
  while (valid) {
    int first = 0, last = 0;
    auto r = std::from_chars(p, end, first);
    valid = r.ec == std::errc() && first >= 0;
    last = first;
    if (valid && r.ptr < end && *r.ptr == '-') {
      r = std::from_chars(r.ptr + 1, end, last);
      valid = r.ec == std::errc() && last >= first && last - first < 100000;
    }
    for (int n = first; valid && n <= last; ++n) list.numbers.push_back(n);
    if (!valid || r.ptr == end) break;
    valid = *r.ptr == ',';
    p = r.ptr + 1;
  }
  if (valid) return list;
  return invalid_argument(flag + " is '" + text + "', wanted numbers like 0,2-4 or " +
                          words.front());
}

Status check_below(const std::string& flag, const NumberList& list, int count) {
  for (const int n : list.numbers) {
    if (n >= count) {
      return invalid_argument(flag + " names " + std::to_string(n) + ", there are 0 to " +
                              std::to_string(count - 1));
    }
  }
  return ok_status();
}

// The symbols to show: of the Updates in `updates`, or with "last" the last that each layer built
// (a degraded layer builds none any more).
Result<std::vector<const SymbolSnapshot*>> select(const std::vector<SymbolSnapshot>& all,
                                                  const NumberList& layers,
                                                  const NumberList& updates,
                                                  const NumberList& streams) {
  std::map<std::pair<int, int>, int> last;  // (layer, stream) -> step
  std::string steps;
  for (const SymbolSnapshot& s : all) {
    last[{s.layer, s.stream}] = s.step;
    const std::string step = std::to_string(s.step);
    if (steps.empty() || !steps.ends_with(step)) steps += (steps.empty() ? "" : ", ") + step;
  }
  if (all.empty()) {
    return unsupported("the run built no symbols: it has no Update step before its last one");
  }
  for (const int n : updates.numbers) {
    if (std::none_of(all.begin(), all.end(), [n](const auto& s) { return s.step == n; })) {
      return invalid_argument("--updates names step " + std::to_string(n) +
                              ", Updates that built symbols were at " + steps);
    }
  }
  std::vector<const SymbolSnapshot*> out;
  for (const SymbolSnapshot& s : all) {
    if (!layers.contains(s.layer) || !streams.contains(s.stream) || !updates.contains(s.step)) {
      continue;
    }
    if (updates.word == "last" && last[{s.layer, s.stream}] != s.step) continue;
    out.push_back(&s);
  }
  if (out.empty())
    return invalid_argument("no symbols were built at this layer, Update and stream");
  return out;
}

std::string file_stem(const SymbolSnapshot& s) {
  char name[80];
  std::snprintf(name, sizeof(name), "step%02d-layer%02d-stream%d", s.step, s.layer, s.stream);
  return name;
}

// All heads of one layer.
Image heads_sheet(const SparseSymbols& symbols) {
  const SymbolGeometry& g = symbols.geometry();
  const int cell = std::clamp(kHeadPixels / std::max(g.num_q_blocks(), g.num_kv_blocks()), 1, 16);
  std::vector<std::vector<Image>> rows;
  for (int h = 0; h < g.heads; ++h) {
    if (h % kHeadsPerRow == 0) rows.emplace_back();
    SymbolsPicture p = symbols_picture(symbols, 0, h, cell);
    rows.back().push_back({p.width, p.height, std::move(p.rgb)});
  }
  return contact_sheet(rows);
}

// Layers from top to bottom (all of stream 0 first), steps from left to right.
Image sparsity_map(const RunReport& report) {
  std::vector<std::vector<double>> rows(report.steps.front().layers.size());
  for (const StepRecord& step : report.steps) {
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].push_back(attention_sparsity(step.layers[i]));
    }
  }
  return heat_map(rows, kHeatMapCell);
}

Table steps_table(const RunReport& report) {
  Table table({"step", "kind", "seconds", "attention", "cached", "degraded"});
  for (const StepRecord& step : report.steps) {
    double cached = 0;
    int degraded = 0;
    for (const LayerRecord& r : step.layers) {
      cached += cached_sparsity(r) / double(step.layers.size());
      degraded += r.kind == LayerKind::kDegraded;
    }
    table.add({std::to_string(step.step), step_kind_name(step.kind), fixed(step.seconds, 3),
               percent(step.attention_sparsity()), percent(cached),
               std::to_string(degraded) + "/" + std::to_string(step.layers.size())});
  }
  return table;
}

// Means of each layer over its Dispatch steps and streams.
Table layers_table(const RunReport& report) {
  Table table({"layer (in Dispatch steps)", "attention", "cached", "degraded"});
  const size_t num_layers = report.layer_names.size();
  for (size_t layer = 0; layer < num_layers; ++layer) {
    double attention = 0, cached = 0;
    int count = 0, degraded = 0;
    for (const StepRecord& step : report.steps) {
      if (step.kind != StepKind::kDispatch) continue;
      for (size_t i = layer; i < step.layers.size(); i += num_layers) {
        attention += attention_sparsity(step.layers[i]);
        cached += cached_sparsity(step.layers[i]);
        degraded += step.layers[i].kind == LayerKind::kDegraded;
        ++count;
      }
    }
    const double n = std::max(1, count);
    table.add({std::to_string(layer) + " " + report.layer_names[layer], percent(attention / n),
               percent(cached / n), std::to_string(degraded) + "/" + std::to_string(count)});
  }
  return table;
}

nlohmann::json maps_json(const std::vector<const SymbolSnapshot*>& shown) {
  nlohmann::json out = nlohmann::json::array();
  for (const SymbolSnapshot* s : shown) {
    const SymbolCounts c = s->symbols.counts();
    out.push_back({{"step", s->step},
                   {"layer", s->layer},
                   {"stream", s->stream},
                   {"picture", file_stem(*s) + ".png"},
                   {"attention_sparsity", 1 - c.pair_density()},
                   {"cached_sparsity", 1 - c.row_density()}});
  }
  return out;
}

Status inspect_run(const Flags& flags, const std::string& command_line) {
  FO_ASSIGN_OR_RETURN(const NumberList layers, parse_list("--layers", flags.layers, {"all"}));
  FO_ASSIGN_OR_RETURN(const NumberList streams, parse_list("--streams", flags.streams, {"all"}));
  FO_ASSIGN_OR_RETURN(const NumberList updates,
                      parse_list("--updates", flags.updates, {"all", "last"}));
  FO_ASSIGN_OR_RETURN(const Runtime runtime, open_runtime(flags.model));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(runtime.pipeline->defaults().family));
  if (choice.name == "dense") {
    return invalid_argument("strategy is dense, wanted one that builds symbols");
  }
  FO_ASSIGN_OR_RETURN(const TextToImageRequest request,
                      flags.picture.request(flags.what, *runtime.pipeline));
  const flux::FluxConfig& model = runtime.pipeline->transformer().config();
  const int head = flags.head.value_or(0);
  FO_RETURN_IF_ERROR(check_below("--layers", layers, model.num_layers + model.num_single_layers));
  FO_RETURN_IF_ERROR(check_below("--streams", streams, request.guidance == 1.0 ? 1 : 2));
  FO_RETURN_IF_ERROR(check_below("--head", {"", {head}}, model.num_attention_heads));
  FO_RETURN_IF_ERROR(prepare_folder(flags.out_dir));
  if (!flags.save_dir.empty()) FO_RETURN_IF_ERROR(prepare_folder(flags.save_dir));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_ASSIGN_OR_RETURN(std::unique_ptr<Strategy> strategy, make_strategy(choice));
  if (stop_requested()) return cancelled("stopped before the first step");

  Progress progress(flags.output.quiet);
  EngineOptions engine;
  engine.keep_symbols = true;
  Result<TextToImageResult> result =
      runtime.pipeline->generate(request, std::move(strategy), engine, progress.track());
  progress.clear();
  FO_RETURN_IF_ERROR(result.status());
  const RunReport& report = result->report;
  FO_ASSIGN_OR_RETURN(const std::vector<const SymbolSnapshot*> shown,
                      select(result->snapshots, layers, updates, streams));

  for (const SymbolSnapshot* s : shown) {
    const std::string stem = file_stem(*s);
    FO_RETURN_IF_ERROR(save_png(flags.out_dir + "/" + stem + ".png", heads_sheet(s->symbols)));
    if (flags.save_dir.empty()) continue;
    FO_RETURN_IF_ERROR(save_symbols(s->symbols, flags.save_dir + "/" + stem + ".fosy"));
  }
  FO_RETURN_IF_ERROR(save_png(flags.out_dir + "/sparsity.png", sparsity_map(report)));
  FO_RETURN_IF_ERROR(save_png(flags.out_dir + "/picture.png", result->image));
  if (!flags.output.json.empty()) {
    nlohmann::json doc = json_head(command_line, runtime);
    doc["prompt"] = request.prompt;
    doc["settings"] = request_json(request);
    doc["strategy"] = to_json(choice);
    doc["seconds"] = result->seconds;
    doc.update(summary_json(report));
    doc["layer_names"] = report.layer_names;
    doc["per_step"] = steps_json(report);
    doc["layers"] = layers_json(report);
    doc["maps"] = maps_json(shown);
    FO_RETURN_IF_ERROR(write_json_file(flags.output.json, doc));
  }
  if (flags.output.quiet) return ok_status();
  print_fallbacks(report.fallbacks);
  std::printf("%s\n%s\n", steps_table(report).text().c_str(), layers_table(report).text().c_str());
  if (flags.ascii) {
    const SymbolSnapshot& s = *shown.front();
    std::printf(
        "step %d, layer %d, stream %d, head %d ('#' computed, '.' skipped, '-' cached):\n%s\n",
        s.step, s.layer, s.stream, head, symbols_ascii(s.symbols, 0, head).c_str());
  }
  std::printf(
      "%s, %zu maps in %s/: stepNN-layerNN-streamN.png, sparsity.png (layers by steps), "
      "picture.png\n",
      strategy_text(choice).c_str(), shown.size(), flags.out_dir.c_str());
  return ok_status();
}

Status inspect(const Flags& flags, const std::string& command_line) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(flags.what, error)) return inspect_run(flags, command_line);
  if (!flags.given.empty()) {
    return invalid_argument(flags.given.front() + " has no meaning for a file of symbols (" +
                            flags.what + ")");
  }
  return inspect_symbols_file(flags.what, flags.head.value_or(0), flags.output);
}

}  // namespace

void add_inspect(CLI::App& app, CommandLine& line) {
  CLI::App* sub =
      app.add_subcommand("inspect", "show what a strategy decides, or a file of saved symbols");
  const auto flags = std::make_shared<Flags>();
  CLI::Option* what = sub->add_option("what", flags->what, "a prompt, or a file of saved symbols")
                          ->required()
                          ->type_name("PROMPT|FILE");
  CLI::Option* head = add_number(*sub, "--head", flags->head, 0, "head of the map that is printed");
  CLI::Option* ascii =
      sub->add_flag("--ascii", flags->ascii, "print the first chosen map (always done for a file)");
  flags->output.add_to(*sub);
  const std::vector<CLI::Option*> of_files = {what, head, ascii, sub->get_option("--json"),
                                              sub->get_option("--quiet")};
  sub->add_option("--out-dir", flags->out_dir, "folder for the pictures (default out)")
      ->type_name("DIR");
  sub->add_option("--layers", flags->layers, "layers to draw, like 0,2-4 (default all)")
      ->type_name("LIST");
  sub->add_option("--updates", flags->updates,
                  "Update steps to draw: a list, all, or last (default: each layer's last)")
      ->type_name("LIST");
  sub->add_option("--streams", flags->streams,
                  "guidance streams to draw, 0 with the prompt (default all)")
      ->type_name("LIST");
  sub->add_option("--save-symbols", flags->save_dir, "also save what is drawn, as .fosy files")
      ->type_name("DIR");
  flags->picture.add_to(*sub);
  flags->strategy.add_to(*sub);
  flags->model.add_to(*sub);
  sub->callback([sub, of_files, flags, &line] {
    for (const CLI::Option* o : sub->get_options()) {
      if (o->count() > 0 && std::find(of_files.begin(), of_files.end(), o) == of_files.end()) {
        flags->given.push_back(o->get_name());
      }
    }
    line.run = [flags, &line] { return inspect(*flags, line.text); };
  });
}

}  // namespace flashomni::tools

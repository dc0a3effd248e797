// SPDX-License-Identifier: Apache-2.0
//
// flashomni info: this build, this machine, the strategies and the model that would be used; or
// what a transformer folder holds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "flashomni/version.h"
#include "io/json.h"
#include "io/weight_store.h"
#include "pipelines/run_json.h"
#include "tools/commands.h"
#include "tools/model_folder.h"
#include "tools/runtime.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

// Instruction sets a CPU backend may know. Which of them it has here, only trying tells.
constexpr const char* kInstructionSets[] = {"AVX3_SPR", "AVX3_ZEN4", "AVX3",   "AVX2",
                                            "NEON",     "NEON_BF16", "SCALAR", "AMX"};

struct Flags {
  std::string folder;
  bool strategies = false;
  ModelFlags model;
  OutputFlags output;
};

// A backend's machine_json, or why there is none.
struct Device {
  std::optional<BackendInfo> info;
  std::string reason;
};

Device open_device(const std::string& name, const BackendOptions& options) {
  const std::vector<std::string> names = backend_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return {{}, "this build has no " + name + " backend"};
  }
  const Result<std::unique_ptr<Backend>> backend = make_backend(name, options);
  if (!backend.ok()) return {{}, backend.status().message()};
  return {(*backend)->info(), {}};
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> out;
  for (const char* isa : kInstructionSets) {
    if (make_backend("cpu", {.threads = 1, .isa = isa}).ok()) out.push_back(isa);
  }
  return out;
}

json device_json(const Device& device) {
  return device.info ? machine_json(*device.info) : json{{"unavailable", device.reason}};
}

std::string device_text(const Device& device) {
  if (!device.info) return "none: " + device.reason;
  const BackendInfo& i = *device.info;
  std::string text = i.device + ", " + i.isa;
  if (i.threads > 1) text += ", " + std::to_string(i.threads) + " threads";
  if (i.memory_bytes) text += ", " + fixed(double(i.memory_bytes) / double(1 << 30), 1) + " GiB";
  return text;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

bool has_range(const OptionInfo& option) {
  return std::holds_alternative<int64_t>(option.default_value) ||
         std::holds_alternative<double>(option.default_value);
}

// "0.5" and "100000", not "1e+05".
std::string range_end(double x) {
  return x == std::floor(x) && std::abs(x) < 1e15 ? fixed(x, 0) : option_to_string(x);
}

json strategies_json() {
  json out = json::array();
  for (const StrategyInfo& s : list_strategies()) {
    json options = json::array();
    for (const OptionInfo& o : s.options) {
      json one = {{"name", o.name}, {"help", o.help}, {"default", to_json(o.default_value)}};
      if (has_range(o)) one["range"] = {o.minimum, o.maximum};
      options.push_back(std::move(one));
    }
    out.push_back({{"name", s.name},
                   {"summary", s.summary},
                   {"presets", s.presets},
                   {"options", std::move(options)}});
  }
  return out;
}

std::string strategies_text() {
  std::string out;
  for (const StrategyInfo& s : list_strategies()) {
    out += s.name + ": " + s.summary + "\n";
    if (!s.presets.empty()) out += "  presets: " + joined(s.presets) + "\n";
    Table table({"  option", "default", "range", "meaning"}, {0, 3});
    for (const OptionInfo& o : s.options) {
      const std::string range =
          has_range(o) ? range_end(o.minimum) + ".." + range_end(o.maximum) : "";
      table.add({"  " + o.name, option_to_string(o.default_value), range, o.help});
    }
    if (!s.options.empty()) out += table.text();
    out += "\n";
  }
  return out;
}

// What is known about a loaded checkpoint.
Result<json> model_json(const Runtime& runtime) {
  const flux::FluxTransformer& transformer = runtime.pipeline->transformer();
  const flux::FluxConfig& c = transformer.config();
  const TextToImageDefaults& d = runtime.pipeline->defaults();
  FO_ASSIGN_OR_RETURN(const WeightStore store, WeightStore::open(runtime.folder + "/transformer"));
  std::set<std::string> dtypes;
  for (const TensorEntry* t : store.tensors()) dtypes.insert(stored_dtype_name(t->dtype));
  return json{
      {"folder", runtime.folder},
      {"family", d.family},
      {"class", "FluxTransformer2DModel"},
      {"double_layers", c.num_layers},
      {"single_layers", c.num_single_layers},
      {"heads", c.num_attention_heads},
      {"head_dim", c.attention_head_dim},
      {"parameters", transformer.parameters()},
      {"dtypes", dtypes},
      {"file_bytes", store.total_bytes()},
      {"weight_bytes", transformer.weight_bytes()},
      {"unused_tensors", transformer.unused_tensors()},
      {"text_tokens", d.pixels ? json(runtime.pipeline->text_encoder().max_length()) : json()},
      {"defaults",
       {{"width", d.width},
        {"height", d.height},
        {"steps", d.steps},
        {"guidance", d.guidance},
        {"patch", d.patch}}}};
}

std::string model_text(const json& m) {
  const json& d = m["defaults"];
  std::string dtypes;
  for (const json& t : m["dtypes"]) dtypes += (dtypes.empty() ? "" : "/") + t.get<std::string>();
  auto number = [](const json& j) { return std::to_string(j.get<int64_t>()); };
  return m["class"].get<std::string>() + ", " + number(m["double_layers"]) + " double + " +
         number(m["single_layers"]) + " single layers, " + number(m["heads"]) + " heads of " +
         number(m["head_dim"]) + ", " + fixed(m["parameters"].get<double>() / 1e6, 1) +
         " M parameters, " + dtypes + ", " + mebibytes(m["weight_bytes"].get<size_t>()) +
         " MiB loaded\n            " + number(d["width"]) + "x" + number(d["height"]) + ", " +
         number(d["steps"]) + " steps, guidance " + fixed(d["guidance"].get<double>(), 1) +
         (m["text_tokens"].is_null()
              ? std::string(", text as embeddings, latents out")
              : ", up to " + std::to_string(m["text_tokens"].get<int>() - 1) + " text tokens") +
         "\n            " + m["folder"].get<std::string>();
}

// The model is optional here: without one the rest is still worth knowing. One that was asked for
// and does not load is an error.
Result<json> optional_model(const ModelFlags& flags) {
  if (flags.model.empty()) {
    const Status found = find_model_folder(flags).status();
    if (!found.ok()) return json{{"unavailable", found.message()}};
  }
  FO_ASSIGN_OR_RETURN(const Runtime runtime, open_runtime(flags));
  return model_json(runtime);
}

Status folder_info(const Flags& flags) {
  FO_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, make_backend("cpu", {.threads = 1}));
  FO_ASSIGN_OR_RETURN(const FolderSummary summary, summarize_folder(*backend, flags.folder));
  if (!flags.output.json.empty()) {
    const json doc = {{"version", version()}, {"components", summary.components}};
    FO_RETURN_IF_ERROR(write_json_file(flags.output.json, doc));
  }
  if (!flags.output.quiet) std::printf("%s", folder_text(summary).c_str());
  return summary.weights;
}

Status info(const Flags& flags) {
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  if (!flags.folder.empty()) return folder_info(flags);
  const BackendOptions options{flags.model.threads.value_or(0), flags.model.isa};
  const Device cpu = open_device("cpu", options);
  if (!cpu.info) return unsupported(cpu.reason);
  const Device gpu = open_device("cuda", options);
  const std::vector<std::string> isas = instruction_sets();
  FO_ASSIGN_OR_RETURN(const json model, optional_model(flags.model));
  if (!flags.output.json.empty()) {
    const json doc = {{"version", version()},     {"cpu", device_json(cpu)},
                      {"instruction_sets", isas}, {"gpu", device_json(gpu)},
                      {"model", model},           {"strategies", strategies_json()}};
    FO_RETURN_IF_ERROR(write_json_file(flags.output.json, doc));
  }
  if (flags.output.quiet) return ok_status();
  if (flags.strategies) {
    std::printf("%s", strategies_text().c_str());
    return ok_status();
  }
  std::vector<std::string> names;
  for (const StrategyInfo& s : list_strategies()) names.push_back(s.name);
  const bool missing = model.contains("unavailable");
  std::printf(
      "flashomni %s\nCPU         %s (available: %s)\nGPU         %s\nstrategies  %s\nmodel       "
      "%s\n",
      version(), device_text(cpu).c_str(), joined(isas).c_str(), device_text(gpu).c_str(),
      joined(names).c_str(),
      missing ? ("none: " + model["unavailable"].get<std::string>()).c_str()
              : model_text(model).c_str());
  return ok_status();
}

}  // namespace

void add_info(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("info", "this build, machine, model and the strategies");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("folder", flags->folder,
                  "a transformer folder as diffusers saves it, with or without weights, to be "
                  "summarised from config.json and the headers of the weights");
  sub->add_flag("--strategies", flags->strategies,
                "list every strategy with its options, defaults, ranges and presets");
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags] { return info(*flags); }; });
}

}  // namespace flashomni::tools

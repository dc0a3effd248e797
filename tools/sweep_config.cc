// SPDX-License-Identifier: Apache-2.0
#include "tools/sweep_config.h"

#include <algorithm>
#include <set>

#include "io/json.h"
#include "io/messages.h"
#include "tools/trials.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

// One entry of "configs" with its lists taken apart.
struct Entry {
  std::string label, curve;
  json plain;  // without the grid's options
  std::vector<std::pair<std::string, json>> axes;
};

Result<Entry> parse_entry(const json& object, const std::string& source) {
  if (!object.is_object()) {
    return invalid_argument(source + ": is " + object.type_name() + ", wanted an object");
  }
  Entry e;
  JsonFields f(object, source);
  e.label = f.text("label", "");
  e.curve = f.text("curve", "");
  FO_RETURN_IF_ERROR(f.status());
  e.plain = object;
  e.plain.erase("label");
  e.plain.erase("curve");
  if (!e.plain.contains("options") || !e.plain["options"].is_object()) return e;
  for (const auto& [name, value] : object["options"].items()) {
    if (!value.is_array()) continue;
    if (value.empty()) {
      return invalid_argument(source + ": option " + quote(name) + " is an empty list");
    }
    e.axes.emplace_back(name, value);
    e.plain["options"].erase(name);
  }
  return e;
}

std::string value_text(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// All combinations of one entry.
Status expand(const Entry& e, const std::string& source, const std::string& family,
              std::vector<SweepConfig>& out) {
  std::vector<size_t> at(e.axes.size(), 0);
  while (true) {
    json object = e.plain;
    std::string grid;
    for (size_t a = 0; a < e.axes.size(); ++a) {
      const auto& [name, values] = e.axes[a];
      object["options"][name] = values[at[a]];
      grid += " " + name + "=" + value_text(values[at[a]]);
    }
    FO_ASSIGN_OR_RETURN(const StrategyChoice given, parse_strategy_choice(object, source));
    Result<StrategyChoice> choice = resolve_strategy(given, family);
    if (!choice.ok()) return invalid_argument(source + ": " + choice.status().message());
    std::string label = e.label;
    if (label.empty()) label = given.name + (given.preset.empty() ? "" : " " + given.preset);
    if (e.label.empty() && e.axes.empty()) {
      for (const auto& [name, value] : given.options) {
        label += " " + name + "=" + option_to_string(value);
      }
    }
    out.push_back({label + grid, e.curve.empty() ? given.name : e.curve, std::move(*choice)});
    if (out.size() > kMaxSweepConfigs) {
      return invalid_argument(source + ": makes more than " + std::to_string(kMaxSweepConfigs) +
                              " configs");
    }
    size_t a = at.size();
    while (a > 0 && ++at[a - 1] == e.axes[a - 1].second.size()) at[--a] = 0;
    if (a == 0) return ok_status();
  }
}

}  // namespace

Result<std::vector<SweepConfig>> parse_sweep(const json& object, const std::string& source,
                                             const std::string& model_family) {
  if (!object.is_object() || !object.contains("configs") || !object["configs"].is_array() ||
      object["configs"].empty()) {
    return invalid_argument(source + R"(: wanted {"configs": [{"strategy": ...}, ...]})");
  }
  for (const auto& [key, value] : object.items()) {
    if (key == "configs" || key == "comment") continue;
    return invalid_argument(source + ": no field " + quote(key) +
                            " is known here, wanted configs (or comment)");
  }
  std::vector<SweepConfig> all;
  for (size_t i = 0; i < object["configs"].size(); ++i) {
    const std::string where = source + ": configs[" + std::to_string(i) + "]";
    FO_ASSIGN_OR_RETURN(const Entry entry, parse_entry(object["configs"][i], where));
    FO_RETURN_IF_ERROR(expand(entry, where, model_family, all));
  }
  std::vector<SweepConfig> out;
  std::set<std::string> keys, labels;
  for (SweepConfig& c : all) {
    if (c.choice.name == "dense") continue;  // every sweep has it, once
    if (!keys.insert(trial_key(c.choice)).second) continue;
    if (!labels.insert(c.label).second) {
      return invalid_argument(source + ": two different configs have the label " + quote(c.label));
    }
    out.push_back(std::move(c));
  }
  if (out.empty()) return invalid_argument(source + ": no config but dense, which always runs");
  return out;
}

}  // namespace flashomni::tools

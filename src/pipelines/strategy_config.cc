// SPDX-License-Identifier: Apache-2.0
#include "pipelines/strategy_config.h"

#include <charconv>
#include <cmath>

#include "io/json.h"
#include "io/messages.h"

namespace flashomni {
namespace {

using nlohmann::json;

// Names of strategies and presets are arguments here, not files: a wrong one is a wrong argument.
Status as_invalid_argument(const Status& status, const std::string& source = "") {
  return invalid_argument((source.empty() ? "" : source + ": ") + status.message());
}

// A plan as an array of rules, in the text form that strategies take:
// [{"steps": "0-9", "layers": 2, "heads": "0-3", "action": "window 256"}, ...]
Result<OptionValue> plan_from_json(const json& rules) {
  std::string out;
  for (const json& rule : rules) {
    if (!rule.is_object() || !rule.contains("action") || !rule["action"].is_string()) {
      return invalid_argument("has a rule that is " + rule.dump() +
                              ", wanted an object with a text field 'action'");
    }
    std::string selectors;
    for (const auto& [key, value] : rule.items()) {
      if (key == "action") continue;
      const bool number = value.is_number_unsigned();
      if (!number && !value.is_string()) {
        return invalid_argument("has a rule with " + quote(key) + " of " + value.dump() +
                                ", wanted a number or text such as 0-9");
      }
      selectors += (selectors.empty() ? "" : ", ") + key + " " +
                   (number ? value.dump() : value.get<std::string>());
    }
    out += (out.empty() ? "" : "; ") + selectors + (selectors.empty() ? "" : ": ") +
           rule["action"].get<std::string>();
  }
  return OptionValue(out);
}

Result<OptionValue> option_from_json(const json& value) {
  if (value.is_array()) return plan_from_json(value);
  if (value.is_boolean()) return OptionValue(value.get<bool>());
  if (value.is_string()) return OptionValue(value.get<std::string>());
  if (value.is_number_float()) return OptionValue(value.get<double>());
  // The parser keeps non-negative integers unsigned; those above int64 fit no option.
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) {
    return OptionValue(value.get<double>());
  }
  if (value.is_number_integer()) return OptionValue(value.get<int64_t>());
  return invalid_argument(std::string("is ") + value.type_name() +
                          ", wanted a number, text, true or false, or an array of plan rules");
}

template <class T>
bool parse_all(const std::string& text, T& out) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), out);
  return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

// `value` in the type of `wanted`, where it means the same. What does not stays as it is:
// make_strategy refuses it with the option's range in the message.
OptionValue coerced(const OptionValue& value, const OptionValue& wanted) {
  if (value.index() == wanted.index()) return value;
  const std::string text = option_to_string(value);
  if (std::holds_alternative<std::string>(wanted)) return text;
  if (std::holds_alternative<bool>(wanted)) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
    return value;
  }
  if (std::holds_alternative<bool>(value)) return value;
  int64_t integer = 0;
  double number = 0;
  const bool is_integer = parse_all(text, integer);
  if (!parse_all(text, number) || !std::isfinite(number)) return value;
  if (std::holds_alternative<double>(wanted)) return number;
  // "6.0" and 6e0 are whole numbers too.
  if (!is_integer && number == std::floor(number) && std::abs(number) <= 0x1p53) {
    return static_cast<int64_t>(number);
  }
  return is_integer ? OptionValue(integer) : value;
}

}  // namespace

Result<StrategyChoice> parse_strategy_choice(const json& object, const std::string& source) {
  StrategyChoice choice;
  JsonFields fields(object, source);
  choice.name = fields.text("strategy", choice.name);
  choice.preset = fields.text("preset", "");
  const json options = object.is_object() ? object.value("options", json::object()) : json();
  FO_RETURN_IF_ERROR(fields.status());
  for (const auto& [key, value] : object.items()) {
    if (key == "strategy" || key == "preset" || key == "options") continue;
    return invalid_argument(source + ": no field " + quote(key) +
                            " is known here, wanted strategy, preset or options");
  }
  if (!options.is_object()) {
    return invalid_argument(source + ": field 'options' is " + options.type_name() +
                            ", wanted an object");
  }
  for (const auto& [key, value] : options.items()) {
    Result<OptionValue> option = option_from_json(value);
    if (!option.ok()) {
      return invalid_argument(source + ": option " + quote(key) + " " + option.status().message());
    }
    choice.options[key] = std::move(option).value();
  }
  const Status known = find_strategy(choice.name).status();
  if (!known.ok()) return as_invalid_argument(known, source);
  return choice;
}

Result<StrategyChoice> read_strategy_choice(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const json object, read_json_file(path));
  return parse_strategy_choice(object, path);
}

Status set_option(StrategyChoice& choice, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return invalid_argument("option setting " + quote(assignment) + ", wanted name=value");
  }
  choice.options[assignment.substr(0, equals)] = assignment.substr(equals + 1);
  return ok_status();
}

Result<StrategyChoice> resolve_strategy(const StrategyChoice& choice,
                                        const std::string& model_family) {
  const Result<StrategyInfo> info = find_strategy(choice.name);
  if (!info.ok()) return as_invalid_argument(info.status());
  OptionMap given;
  if (!choice.preset.empty()) {
    Result<OptionMap> preset = strategy_preset(choice.name, choice.preset, model_family);
    if (!preset.ok()) return as_invalid_argument(preset.status());
    given = std::move(preset).value();
  }
  for (const auto& [name, value] : choice.options) given[name] = value;
  for (const OptionInfo& option : info->options) {
    const auto it = given.find(option.name);
    given[option.name] =
        it == given.end() ? option.default_value : coerced(it->second, option.default_value);
  }
  StrategyChoice resolved{choice.name, choice.preset, std::move(given)};
  FO_RETURN_IF_ERROR(make_strategy(resolved).status());
  return resolved;
}

Result<std::unique_ptr<Strategy>> make_strategy(const StrategyChoice& resolved) {
  return make_strategy(resolved.name, resolved.options);
}

json to_json(const OptionValue& value) {
  return std::visit([](const auto& v) { return json(v); }, value);
}

json to_json(const StrategyChoice& choice) {
  json out = {{"strategy", choice.name}};
  if (!choice.preset.empty()) out["preset"] = choice.preset;
  out["options"] = json::object();
  for (const auto& [name, value] : choice.options) out["options"][name] = to_json(value);
  return out;
}

}  // namespace flashomni

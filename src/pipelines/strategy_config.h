// SPDX-License-Identifier: Apache-2.0
//
// Which strategy a run uses and with which options, in the form that config files and the command
// line share: a named option set of the strategy, single options on top.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "flashomni/strategy.h"

namespace flashomni {

struct StrategyChoice {
  std::string name = "flashomni";
  std::string preset;  // below `options`; empty: the strategy's own defaults
  OptionMap options;
};

// Reads {"strategy": "flashomni", "preset": "balanced", "options": {"tau_q": 0.8, ...}}, every
// field optional. Whatever is wrong is kInvalidArgument with `source` in front: another field, a
// strategy that does not exist, an option value that is no number, text or truth value.
Result<StrategyChoice> parse_strategy_choice(const nlohmann::json& json, const std::string& source);
// The same from a file; also kNotFound and kCorruptFile of read_json_file.
Result<StrategyChoice> read_strategy_choice(const std::string& path);

// Puts "name=value" on top of the options. Names and values are checked by resolve_strategy.
Status set_option(StrategyChoice& choice, const std::string& assignment);

// The same choice with every option of the strategy spelled out in the option's own type: defaults,
// then the preset for `model_family`, then choice.options. Unknown names and values out of range
// are kInvalidArgument; the messages list what there is.
Result<StrategyChoice> resolve_strategy(const StrategyChoice& choice,
                                        const std::string& model_family);
// A fresh strategy. REQUIRES a choice from resolve_strategy.
Result<std::unique_ptr<Strategy>> make_strategy(const StrategyChoice& resolved);

// What parse_strategy_choice reads: the record of a run can be used as its config file.
nlohmann::json to_json(const StrategyChoice& choice);
// A number, text or truth value.
nlohmann::json to_json(const OptionValue& value);

}  // namespace flashomni

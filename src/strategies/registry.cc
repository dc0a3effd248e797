// SPDX-License-Identifier: Apache-2.0
//
// Names of strategies, their options and presets. A new strategy adds one row to kEntries.
#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/presets.h"

namespace flashomni {
namespace {

struct Entry {
  const char* name;
  const char* summary;
  void (*describe)(std::vector<OptionInfo>&);
  Result<std::unique_ptr<Strategy>> (*make)(const OptionMap&);
};

template <class Options>
void describe_options(std::vector<OptionInfo>& out) {
  Options options;
  strategies::OptionDescriber describer(out);
  strategies::visit(options, describer);
}

// Fills an options struct from a map and hands it to the strategy's factory.
template <class Options, auto Factory>
Result<std::unique_ptr<Strategy>> make_from(const std::string& name, const OptionMap& values) {
  Options options;
  strategies::OptionSetter setter(name, values);
  strategies::visit(options, setter);
  FO_RETURN_IF_ERROR(setter.finish());
  return Factory(options);
}

#define FO_STRATEGY(NAME, OPTIONS, FACTORY, SUMMARY)                            \
  Entry {                                                                       \
    NAME, SUMMARY, describe_options<OPTIONS>,                                   \
        [](const OptionMap& m) { return make_from<OPTIONS, FACTORY>(NAME, m); } \
  }

const Entry kEntries[] = {
    FO_STRATEGY("block_diagonal", BlockDiagonalOptions, make_block_diagonal,
                "groups of blocks that see only themselves"),
    FO_STRATEGY("dense", DenseOptions, make_dense, "everything is computed (the baseline)"),
    FO_STRATEGY("flashomni", FlashOmniOptions, make_flashomni,
                "the paper's policy: cache rows that matter little to the text, skip weak blocks"),
    FO_STRATEGY("random", RandomOptions, make_random,
                "random symbols with exact counts, for benchmarks"),
    FO_STRATEGY("window", WindowOptions, make_window, "sliding window over the token sequence"),
};

#undef FO_STRATEGY

const Entry* find_entry(const std::string& name) {
  for (const Entry& e : kEntries) {
    if (name == e.name) return &e;
  }
  return nullptr;
}

Status unknown_strategy(const std::string& name) {
  std::string known;
  for (const Entry& e : kEntries) known += (known.empty() ? "" : ", ") + std::string(e.name);
  return not_found("no strategy '" + name + "'; there is: " + known);
}

StrategyInfo make_info(const Entry& e) {
  StrategyInfo info{e.name, e.summary, {}, strategies::preset_names(e.name)};
  e.describe(info.options);
  return info;
}

}  // namespace

std::vector<StrategyInfo> list_strategies() {
  std::vector<StrategyInfo> out;
  for (const Entry& e : kEntries) out.push_back(make_info(e));
  return out;
}

Result<StrategyInfo> find_strategy(const std::string& name) {
  const Entry* e = find_entry(name);
  if (!e) return unknown_strategy(name);
  return make_info(*e);
}

Result<std::unique_ptr<Strategy>> make_strategy(const std::string& name, const OptionMap& options) {
  const Entry* e = find_entry(name);
  if (!e) return unknown_strategy(name);
  return e->make(options);
}

}  // namespace flashomni

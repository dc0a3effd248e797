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
    FO_STRATEGY("ditfastattn", DitFastAttnOptions, make_ditfastattn,
                "DiTFastAttn: windows with residual, shared outputs, shared guidance streams"),
    FO_STRATEGY("ditfastattn-v2", DitFastAttnV2Options, make_ditfastattn_v2,
                "DiTFastAttnV2: a window or the cached output for each head"),
    FO_STRATEGY("draft", DraftOptions, make_draft,
                "DraftAttention: patches pooled to one block, one threshold a head"),
    FO_STRATEGY("first_block", FirstBlockOptions, make_first_block,
                "FBCache / DBCache: steps are skipped while the first layers change little"),
    FO_STRATEGY("flashomni", FlashOmniOptions, make_flashomni,
                "the paper's policy: cache rows that matter little to the text, skip weak blocks"),
    FO_STRATEGY("flashomni-adaptive", AdaptiveOptions, make_flashomni_adaptive,
                "FlashOmni steered by measured forecast errors towards one quality knob"),
    FO_STRATEGY("fora", ForaOptions, make_fora, "FORA: all module outputs reused between steps"),
    FO_STRATEGY("head_cache", HeadCacheOptions, make_head_cache,
                "a share of the heads is taken from the cache, by turns"),
    FO_STRATEGY("pab", PabOptions, make_pab,
                "Pyramid Attention Broadcast: attention reused over a range of steps"),
    FO_STRATEGY("plan", PlanOptions, make_plan, "a table of what each step, layer and head does"),
    FO_STRATEGY("radial", RadialOptions, make_radial,
                "radial attention: windows that shrink with the distance of frames"),
    FO_STRATEGY("random", RandomOptions, make_random,
                "random symbols with exact counts, for benchmarks"),
    FO_STRATEGY("sparge", SpargeOptions, make_sparge,
                "SpargeAttn: pooled attention, unlike blocks always computed"),
    FO_STRATEGY("sta", StaOptions, make_sta, "sliding tile attention"),
    FO_STRATEGY("svg1", Svg1Options, make_svg1,
                "Sparse VideoGen: each head in a band over space or over time"),
    FO_STRATEGY("taylorseer", TaylorSeerOptions, make_taylorseer,
                "TaylorSeer: all module outputs forecast between steps"),
    FO_STRATEGY("teacache", TeaCacheOptions, make_teacache,
                "TeaCache: steps are skipped while the model's input changes little"),
    FO_STRATEGY("vsa", VsaOptions, make_vsa, "Video Sparse Attention's fine branch: block top-k"),
    FO_STRATEGY("window", WindowOptions, make_window, "sliding window over the token sequence"),
    FO_STRATEGY("xattention", XAttentionOptions, make_xattention,
                "XAttention: blocks scored by antidiagonals"),
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

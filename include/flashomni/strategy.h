// SPDX-License-Identifier: Apache-2.0
//
// A strategy decides, step by step, what may be skipped and what may be reused, and writes it down
// as symbols. Everything else (kernels, cache, report) is the engine's, so a new idea is one class.
// Its options are plain data under one set of names for JSON, the command line, C++ and Python.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "flashomni/backend.h"
#include "flashomni/status.h"
#include "flashomni/symbols.h"

namespace flashomni {

// What a denoising step does (strategies 0.8).
enum class StepKind : uint8_t {
  kFull,       // dense; nothing is refreshed
  kUpdate,     // dense attention; symbols and the feature cache are refreshed
  kDispatch,   // the symbols steer the kernels
  kSkipModel,  // the whole model output is reused
};
const char* step_kind_name(StepKind kind);

// The joint token sequence of one attention layer. Text tokens sit in one contiguous range.
struct SequenceInfo {
  int batch = 1;
  int heads = 1;
  int head_dim = 64;
  int tokens = 0;
  int text_begin = 0;  // [text_begin, text_end) are text tokens; empty for models without them
  int text_end = 0;
  bool operator==(const SequenceInfo&) const = default;
};

// What is known about a whole denoising run before it starts.
struct RunInfo {
  int steps = 0;
  int streams = 1;  // guidance streams: 1, or 2 with classifier-free guidance
  int layers = 0;
  SequenceInfo sequence;
};

struct StepContext {
  int step = 0;          // t, 0-based
  int steps = 0;         // T
  int last_update = -1;  // t_u, the last step that refreshed the cache; -1 before the first
};

// What the feature cache keeps for a strategy.
struct CacheSpec {
  bool features = false;       // forecast the attention output of cached tiles
  int order = 0;               // D, highest Taylor order of the attention site, 0..3
  bool degrade = false;        // layers may switch to reusing whole module outputs
  double degrade_density = 0;  // S_q: a layer degrades when its S_c density is <= this
  int degrade_order = 0;       // Taylor order of the module outputs of degraded layers, 0..3
  // Full steps from this one on also refresh features and module outputs (without building
  // symbols), so that the first Update already knows a slope; -1: only Updates refresh.
  int refresh_full_from = -1;
};

// Everything a symbol builder may read. q and k are taken after RMSNorm and RoPE.
struct BuildContext {
  Backend* backend = nullptr;
  Exec exec;
  StepContext step;
  int layer = 0;
  int stream = 0;
  SequenceInfo sequence;
  TensorView q;             // [B, N, H, d]
  TensorView k;             // [B, N, H, d]
  void* scratch = nullptr;  // scratch_bytes() of backend memory
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  virtual const char* name() const = 0;

  // Called once before a run; checks the options against the run and fails by name.
  virtual Status begin_run(const RunInfo& run) = 0;
  // Called once after begin_run: puts what is known before the run into the backend's memory.
  virtual Status prepare(Backend& backend, const Exec& exec) {
    (void)backend;
    (void)exec;
    return ok_status();
  }
  // Block sizes of the symbols.
  virtual int block_q() const = 0;
  virtual int block_kv() const = 0;
  virtual CacheSpec cache_spec() const = 0;
  // Backend memory that build() needs.
  virtual size_t scratch_bytes(const SequenceInfo& sequence) const {
    (void)sequence;
    return 0;
  }

  // Decides the kind of step t. Called once a step, in order, for all guidance streams together.
  virtual StepKind begin_step(const StepContext& step) = 0;
  // On Update steps: writes valid symbols (see SymbolsView) for one layer and stream, through
  // backend operations only. REQUIRES begin_run.
  virtual Status build(const BuildContext& context, SymbolsView out) = 0;
  // A sentence on why this strategy has nothing to skip here, for the report; empty if it has.
  virtual std::string dense_reason() const { return {}; }
};

// ---- options
using OptionValue = std::variant<bool, int64_t, double, std::string>;
using OptionMap = std::map<std::string, OptionValue>;
std::string option_to_string(const OptionValue& value);

// One option of a strategy.
struct OptionInfo {
  std::string name;
  std::string help;
  OptionValue default_value;
  double minimum = 0;  // numeric options only
  double maximum = 0;
};

struct StrategyInfo {
  std::string name;
  std::string summary;
  std::vector<OptionInfo> options;
  std::vector<std::string> presets;
};

// All registered strategies, sorted by name.
std::vector<StrategyInfo> list_strategies();
// Unknown names answer with the known ones.
Result<StrategyInfo> find_strategy(const std::string& name);
// The options of a preset ("quality", "balanced") of a strategy for a model family ("flux",
// "hunyuan_video", "wan", "emoji_flux"); families without their own preset use the strategy's.
Result<OptionMap> strategy_preset(const std::string& strategy, const std::string& preset,
                                  const std::string& model_family);
// Makes a strategy. Unknown options and values out of range fail by name; a string value is parsed
// to the option's type, so that the command line can pass text through.
Result<std::unique_ptr<Strategy>> make_strategy(const std::string& name, const OptionMap& options);

}  // namespace flashomni

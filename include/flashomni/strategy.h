// SPDX-License-Identifier: Apache-2.0
//
// A strategy decides, step by step, what may be skipped and what may be reused, and writes it down
// as symbols. Everything else (kernels, cache, report) is the engine's, so a new idea is one class.
// Its options are plain data under one set of names for JSON, the command line, C++ and Python.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
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

// Where the vision tokens lie: frames of rows of columns, columns fastest. All zero: unknown.
struct TokenGrid {
  int frames = 0;
  int rows = 0;
  int cols = 0;
  int64_t tokens() const { return int64_t{frames} * rows * cols; }
  bool operator==(const TokenGrid&) const = default;
};

// The joint token sequence of one attention layer. Text tokens sit in one contiguous range, before
// or after all vision tokens.
struct SequenceInfo {
  int batch = 1;
  int heads = 1;
  int head_dim = 64;
  int tokens = 0;
  int text_begin = 0;  // [text_begin, text_end) are text tokens; empty for models without them
  int text_end = 0;
  // [reference_begin, reference_end): tokens of a given picture (editing). They are vision tokens
  // behind those that are being denoised; empty for models or runs without them.
  int reference_begin = 0;
  int reference_end = 0;
  TokenGrid grid;  // of the tokens outside the text range, reference included
  bool operator==(const SequenceInfo&) const = default;
};

// What is known about a whole denoising run before it starts.
struct RunInfo {
  int steps = 0;
  int streams = 1;  // guidance streams: 1, or 2 with classifier-free guidance
  int layers = 0;
  SequenceInfo sequence;
  std::vector<int> token_order;          // of the vision tokens, as applied (Strategy::token_order)
  std::vector<std::string> layer_names;  // "transformer_blocks.0", ...; set by the engine
};

struct StepContext {
  int step = 0;          // t, 0-based
  int steps = 0;         // T
  int last_update = -1;  // t_u, the last step that refreshed the cache; -1 before the first
};

// What one layer does in a step, where that differs from what the step's kind says.
enum class LayerAction : uint8_t {
  kFollow,   // dense on Full, dense and refreshing on Update, the symbols in force on Dispatch
  kDense,    // dense; nothing is refreshed
  kUpdate,   // dense; symbols and caches of this layer are refreshed
  kRebuild,  // symbols are built from this step's queries and keys, and steer it at once
  kCached,   // the whole attention output comes from the feature cache
  kReuse,    // all module outputs of the layer come from the cache
  kAlias,    // the attention output of the first guidance stream in this step
};

// When a step may skip a run of layers and add their remembered residual instead.
enum class SkipProbe : uint8_t {
  kNone,            // begin_step says kSkipModel
  kModulatedInput,  // decided by the change of the first layer's modulated input since last step
  kPrefixResidual,  // decided by the change of what the leading layers add, since last computed
};
struct SkipSpec {
  bool enabled = false;
  SkipProbe probe = SkipProbe::kNone;
  int prefix = 0;  // leading layers that always run
  int suffix = 0;  // trailing layers that always run
  int order = 0;   // Taylor order of the residual, 0..3
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

  bool symbols = true;   // false: build() is never called, layers are computed or reused whole
  bool modules = false;  // keep module outputs for LayerAction::kReuse
  // true: cached tiles reach the output as projected bias planes, made at the Update that chose
  // them. false: they are forecast before a dense output projection, so any step may change S_c.
  bool project_cached = true;
  // Additive combination (Delta-DiT style residuals): at each Update the difference between dense
  // and sparse attention is remembered and added on Dispatch steps. With bias planes the difference
  // is of order 0 and S_c rows keep their forecast.
  bool residual = false;
  bool refresh_sparse = false;    // sparse steps refresh the features too
  bool alias = false;             // layers may use LayerAction::kAlias
  bool measure_forecast = false;  // build() sees the forecast of its Update; feedback() its error
};

// Everything a symbol builder may read. q and k are taken after RMSNorm and RoPE.
struct BuildContext {
  Backend* backend = nullptr;
  Exec exec;
  StepContext step;
  int layer = 0;
  int stream = 0;
  SequenceInfo sequence;
  std::span<const int32_t> block_starts;  // in host memory, as the strategy gave them
  TensorView q;                           // [B, N, H, d]
  TensorView k;                           // [B, N, H, d]
  TensorView attention;     // [B, N, H, d], this step's dense output; empty when rebuilding
  TensorView previous;      // [B, N, H, d], the output at the last refresh; empty before the second
  TensorView forecast;      // [B, N, H, d], what the cache forecast for this step, if measured
  void* scratch = nullptr;  // scratch_bytes() of backend memory
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  virtual const char* name() const = 0;

  // Called once before a run; checks the options against the run and fails by name.
  virtual Status begin_run(const RunInfo& run) = 0;
  // Block sizes of the symbols.
  virtual int block_q() const = 0;
  virtual int block_kv() const = 0;
  virtual CacheSpec cache_spec() const = 0;
  // Backend memory that build() needs.
  virtual size_t scratch_bytes(const SequenceInfo& sequence) const {
    (void)sequence;
    return 0;
  }

  // Called after begin_run: puts what never changes (static patterns) into backend memory.
  virtual Status prepare(Backend& backend, const Exec& exec) {
    (void)backend, (void)exec;
    return ok_status();
  }
  // The order in which the run keeps its vision tokens: position p holds token order[p] of the
  // grid. Attention and everything else in a DiT commutes with it, so it costs nothing per layer.
  // Empty: the grid's own order. Called before begin_run.
  virtual Result<std::vector<int>> token_order(const SequenceInfo& sequence) const {
    (void)sequence;
    return std::vector<int>{};
  }
  // Ragged blocks of this sequence, in tokens as the run keeps them: block i of queries and of keys
  // holds [starts[i], starts[i + 1]). Wants block_q() == block_kv() and a cache_spec() without
  // features. Empty: blocks of block_q() and block_kv().
  virtual Result<std::vector<int32_t>> block_starts(const SequenceInfo& sequence) const {
    (void)sequence;
    return std::vector<int32_t>{};
  }
  virtual SkipSpec skip_spec() const { return {}; }

  // Decides the kind of step t. Called once a step, in order, for all guidance streams together.
  virtual StepKind begin_step(const StepContext& step) = 0;
  // What a layer does in this step. Called once a step, layer and stream, in order.
  virtual LayerAction layer_action(const StepContext& step, int layer, int stream) {
    (void)step, (void)layer, (void)stream;
    return LayerAction::kFollow;
  }
  // Whether this step skips the layers between prefix and suffix. `change` is the relative L1
  // change of the probe; negative when there is nothing to compare with. Asked once a step, of the
  // first guidance stream.
  virtual bool skip_model(const StepContext& step, double change) {
    (void)step, (void)change;
    return false;
  }
  // With measure_forecast, after every step that refreshed a layer which already had a forecast:
  // its relative L1 error, `distance` steps after the refresh before.
  virtual void feedback(const StepContext& step, int layer, int stream, int distance,
                        double forecast_error) {
    (void)step, (void)layer, (void)stream, (void)distance, (void)forecast_error;
  }
  // On Update steps (and where a layer rebuilds): writes valid symbols (see SymbolsView) for one
  // layer and stream, through backend operations only. REQUIRES begin_run.
  virtual Status build(const BuildContext& context, SymbolsView out) = 0;
  // A threshold on the softmax of this strategy's sparse attention, in powers of two; see
  // AttentionParams::softmax_skip. 0: none.
  virtual double softmax_skip() const { return 0; }
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
// "flux_kontext", "hunyuan_video", "wan", "emoji_flux"); families without one use the strategy's.
Result<OptionMap> strategy_preset(const std::string& strategy, const std::string& preset,
                                  const std::string& model_family);
// Makes a strategy. Unknown options and values out of range fail by name; a string value is parsed
// to the option's type, so that the command line can pass text through.
Result<std::unique_ptr<Strategy>> make_strategy(const std::string& name, const OptionMap& options);

}  // namespace flashomni

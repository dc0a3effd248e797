// SPDX-License-Identifier: Apache-2.0
//
// One listing of a strategy's options serves everything: each options struct has a visit() that
// names its fields once, and the visitors here turn that into descriptions, parsing and checks.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "flashomni/strategies.h"

namespace flashomni::strategies {

// Collects names, defaults, ranges and help.
class OptionDescriber {
 public:
  explicit OptionDescriber(std::vector<OptionInfo>& out) : out_(out) {}
  void operator()(const char* name, bool& field, const char* help) {
    out_.push_back({name, help, field, 0, 1});
  }
  void operator()(const char* name, std::string& field, const char* help) {
    out_.push_back({name, help, field, 0, 0});
  }
  template <class T>
  void operator()(const char* name, T& field, double minimum, double maximum, const char* help) {
    OptionValue value;
    if constexpr (std::is_floating_point_v<T>) {
      value = double(field);
    } else {
      value = int64_t(field);
    }
    out_.push_back({name, help, value, minimum, maximum});
  }

 private:
  std::vector<OptionInfo>& out_;
};

// Writes the values of an OptionMap into the fields; status() tells the first problem by name.
class OptionSetter {
 public:
  OptionSetter(const std::string& strategy, const OptionMap& values)
      : strategy_(strategy), values_(values) {}
  void operator()(const char* name, bool& field, const char* help);
  void operator()(const char* name, std::string& field, const char* help);
  void operator()(const char* name, double& field, double minimum, double maximum,
                  const char* help);
  void operator()(const char* name, int& field, double minimum, double maximum, const char* help);
  void operator()(const char* name, int64_t& field, double minimum, double maximum,
                  const char* help);
  // Fails also for values that no field took.
  Status finish() const;

 private:
  const OptionValue* take(const char* name);
  void fail(const std::string& message);
  bool number(const char* name, const OptionValue& value, double minimum, double maximum,
              bool integer, double* out);

  const std::string& strategy_;
  const OptionMap& values_;
  std::vector<std::string> known_;
  Status status_;
};

template <class V>
void visit(ScheduleOptions& o, V& v) {
  v("warmup", o.warmup, 1, 100000, "leading dense steps; the last of them is the first Update");
  v("interval", o.interval, 0, 100000, "steps from one Update to the next (0: never refresh)");
  v("schedule_steps", o.schedule_steps, 0, 100000,
    "run length that warmup and interval are meant for; scaled to the real one (0: not scaled)");
  v("last_full", o.last_full, "run the last step dense");
}

template <class V>
void visit(MaskScheduleOptions& o, V& v) {
  v("warmup", o.warmup, 0, 100000, "leading dense steps");
  v("schedule_steps", o.schedule_steps, 0, 100000,
    "run length that warmup is meant for; scaled to the real one (0: not scaled)");
  v("rebuild", o.rebuild, 1, 100000, "steps from one choice of blocks to the next");
  v("dense_layers", o.dense_layers, 0, 100000, "leading layers that always run dense");
  v("last_full", o.last_full, "run the last step dense");
}

template <class V>
void visit_blocks(int& block_q, int& block_kv, V& v) {
  v("block_q", block_q, 32, 128, "tokens per query block (32, 64 or 128)");
  v("block_kv", block_kv, 32, 128, "tokens per key/value block (32, 64 or 128)");
}

// Of strategies whose symbols may spare the text: their blocks, and when they choose.
template <class Options, class V>
void visit_mask(Options& o, V& v) {
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns");
  visit(o.schedule, v);
}

// `least` 0: all sides 0 leave the tokens as they are.
template <class Options, class V>
void visit_tile(Options& o, int least, V& v) {
  const bool optional = least == 0;
  v("tile_frames", o.tile_frames, least, 100000,
    optional ? "frames in a tile (0: no reordering)" : "frames in a tile");
  v("tile_rows", o.tile_rows, least, 100000, "rows of the token grid in a tile");
  v("tile_cols", o.tile_cols, least, 100000, "columns of the token grid in a tile");
}

template <class V>
void visit(DenseOptions&, V&) {}

template <class V>
void visit(FlashOmniOptions& o, V& v) {
  v("tau_q", o.tau_q, 0, 1, "share of the text-score distribution that may be cached (0: off)");
  v("tau_kv", o.tau_kv, 0, 1, "share of a row's pooled attention that may be skipped (0: off)");
  v("ramp", o.ramp, 0, 16, "thresholds grow as tau * (t/T)^ramp");
  v("order", o.order, 0, 3, "Taylor order of the feature forecast");
  v("S_q", o.S_q, 0, 1, "a layer whose computed share of rows falls to this degrades (0: never)");
  v("degrade_order", o.degrade_order, 0, 3, "Taylor order of the reused outputs of such layers");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns");
  v("text_score", o.text_score, "mean_of_softmaxes (FLUX) or softmax_of_sum (HunyuanVideo)");
  v("row_score", o.row_score,
    "what decides which rows are cached: text, column_mass, change or forecast_error");
  v("residual", o.residual, "add what the skipped blocks gave at the last Update (order 0)");
  v("sim_gate", o.sim_gate, "compute blocks whose tokens are unlike each other");
  v("theta_sim", o.theta_sim, -1, 1, "similarity at or below which the gate acts");
  v("smooth_k", o.smooth_k, "subtract the mean key before pooling");
  v("prime", o.prime, "refresh features in the last dense warm-up steps as well");
  visit(o.schedule, v);
  v("extra_updates", o.extra_updates, 0, 100000,
    "first Dispatch steps that are Updates after all; a fraction: of the trailing layers");
}

template <class V>
void visit(WindowOptions& o, V& v) {
  v("window", o.window, 0, 1 << 30, "tokens on either side that a block sees");
  v("residual", o.residual, "add what full attention had besides at the last Update");
  v("order", o.order, 0, 3, "Taylor order of the residual");
  visit_mask(o, v);
}

template <class V>
void visit(BlockDiagonalOptions& o, V& v) {
  v("groups", o.groups, 1, 1 << 30, "groups of blocks that see only themselves");
  visit_mask(o, v);
}

template <class V>
void visit(RandomOptions& o, V& v) {
  v("cached", o.cached, 0, 1, "share of unprotected rows that are cached");
  v("skipped", o.skipped, 0, 1, "share of unprotected pairs that are skipped");
  v("degraded", o.degraded, 0, 1, "share of layers, evenly spread, that degrade");
  v("order", o.order, 0, 3, "Taylor order of the feature forecast");
  v("degrade_order", o.degrade_order, 0, 3, "Taylor order of the reused outputs of such layers");
  v("seed", o.seed, 0, 9.2e18, "seed of the symbols");
  visit_mask(o, v);
}

template <class V>
void visit(SpargeOptions& o, V& v) {
  v("mode", o.mode, "topk or cdf");
  v("topk", o.topk, 0, 1, "topk: share of a row's kv blocks that is kept");
  v("tau", o.tau, 0, 1, "cdf: pooled attention of a row that is kept at most");
  v("theta_sim", o.theta_sim, -1, 1, "similarity at or below which a block is always computed");
  v("smooth_k", o.smooth_k, "subtract the mean key before pooling");
  v("sink", o.sink, "keep the first kv block in every row");
  v("pv", o.pv, 0, 1e6, "powers of two below a row's highest score at which keys are left out");
  visit_mask(o, v);
}

template <class Options, class V>
void visit_ragged(Options& o, V& v) {
  v("ragged", o.ragged, "blocks end where tiles of tokens do (block_q and block_kv alike)");
}

template <class V>
void visit(DraftOptions& o, V& v) {
  v("sparsity", o.sparsity, 0, 1, "share of vision block pairs that is left out");
  v("patch_rows", o.patch_rows, 0, 100000, "rows of the token grid in a patch (0: no reordering)");
  v("patch_cols", o.patch_cols, 0, 100000, "columns of the token grid in a patch");
  visit_ragged(o, v);
  visit_mask(o, v);
}

template <class V>
void visit(VsaOptions& o, V& v) {
  v("sparsity", o.sparsity, 0, 1, "share of a row's kv blocks that is left out");
  visit_tile(o, 0, v);
  visit_ragged(o, v);
  visit_mask(o, v);
}

template <class V>
void visit(XAttentionOptions& o, V& v) {
  v("stride", o.stride, 1, 128, "tokens between the samples of an antidiagonal");
  v("tau", o.tau, 0, 1, "attention of a row that is kept at least");
  visit_mask(o, v);
}

template <class V>
void visit(ForaOptions& o, V& v) {
  visit(o.schedule, v);
}

template <class V>
void visit(TaylorSeerOptions& o, V& v) {
  v("order", o.order, 0, 3, "Taylor order of the module outputs");
  visit(o.schedule, v);
}

template <class V>
void visit(TeaCacheOptions& o, V& v) {
  v("threshold", o.threshold, 0, 1e9, "rescaled change that may sum up before a step is computed");
  v("coefficients", o.coefficients,
    "rescaling: flux, hunyuan_video, wan_t2v_1.3b, wan_t2v_14b, wan_i2v_480p, wan_i2v_720p, none");
  v("order", o.order, 0, 3, "Taylor order of what the skipped layers add");
}

template <class V>
void visit(FirstBlockOptions& o, V& v) {
  v("threshold", o.threshold, 0, 1e9, "relative change below which a step is skipped");
  v("first_layers", o.first_layers, 1, 100000, "leading layers that always run and are compared");
  v("last_layers", o.last_layers, 0, 100000, "trailing layers that always run");
  v("warmup", o.warmup, 1, 100000, "leading steps that are computed");
  v("schedule_steps", o.schedule_steps, 0, 100000,
    "run length that warmup is meant for; scaled to the real one (0: not scaled)");
  v("max_consecutive", o.max_consecutive, 0, 100000, "skipped steps in a row (0: no limit)");
  v("order", o.order, 0, 3, "Taylor order of what the skipped layers add");
}

template <class V>
void visit(PabOptions& o, V& v) {
  v("range", o.range, 1, 100000, "compute attention every so many steps");
  v("ranges", o.ranges, "other ranges by layer name, as 'prefix=number, ...'");
  v("from", o.from, 0, 1, "share of the run where reuse begins");
  v("to", o.to, 0, 1, "share of the run where reuse ends");
  v("order", o.order, 0, 3, "Taylor order of the reused attention output");
  visit_blocks(o.block_q, o.block_kv, v);
}

template <class V>
void visit(AdaptiveOptions& o, V& v) {
  v("quality", o.quality, 0, 1, "0 fastest to 1 dense");
  v("error_budget", o.error_budget, 0, 1e6, "relative error of a layer's output at quality 0");
  v("reuse_margin", o.reuse_margin, 0, 1e6,
    "a layer is reused whole below the budget divided by this (0: never)");
  v("tau_kv", o.tau_kv, 0, 1, "share of a row's pooled attention that is skipped at quality 0");
  v("order", o.order, 0, 3, "Taylor order of the feature forecast");
  v("degrade_order", o.degrade_order, 0, 3, "Taylor order of reused module outputs");
  visit_mask(o, v);
}

template <class V>
void visit_plan(std::string& plan, V& v) {
  v("plan", plan, "rules like 'steps 0-9, layers 2, heads 0-3: window 256; layers 6: cached'");
}

// Warm-up and interval of strategies that fill a plan by themselves.
template <class Options, class V>
void visit_plan_schedule(Options& o, V& v) {
  v("warmup", o.warmup, 1, 100000, "leading full steps");
  v("interval", o.interval, 1, 100000, "steps from one full step to the next");
  v("schedule_steps", o.schedule_steps, 0, 100000,
    "run length that warmup is meant for; scaled to the real one (0: not scaled)");
}

template <class V>
void visit(PlanOptions& o, V& v) {
  visit_plan(o.plan, v);
  v("plan_steps", o.plan_steps, 0, 100000,
    "run length that the plan's steps are meant for (0: as is)");
  v("order", o.order, 0, 3, "Taylor order of cached heads");
  v("residual", o.residual, "windows add what they lacked of the last full attention");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns in windows");
}

template <class V>
void visit(DitFastAttnOptions& o, V& v) {
  visit_plan(o.plan, v);
  v("window", o.window, 0, 1 << 30, "tokens on either side that a window sees");
  visit_plan_schedule(o, v);
  v("shared", o.shared, 0, 100000, "trailing steps of an interval that share the output");
  v("alias", o.alias, "full steps of other guidance streams take the first one's output");
  v("residual", o.residual, "windows add what they lacked of the last full attention");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns in windows");
}

template <class V>
void visit(DitFastAttnV2Options& o, V& v) {
  visit_plan(o.plan, v);
  v("cached_heads", o.cached_heads, 0, 1, "share of the heads taken from the cache");
  v("window_heads", o.window_heads, 0, 1, "share of the heads that attend in a window");
  v("window", o.window, 0, 1 << 30, "tokens on either side that a window sees");
  visit_plan_schedule(o, v);
  v("order", o.order, 0, 3, "Taylor order of cached heads");
  visit_blocks(o.block_q, o.block_kv, v);
}

template <class V>
void visit(HeadCacheOptions& o, V& v) {
  v("cached_heads", o.cached_heads, 0, 1, "share of the heads taken from the cache");
  v("rotate", o.rotate, "other heads in each interval");
  visit_plan_schedule(o, v);
  v("order", o.order, 0, 3, "Taylor order of cached heads");
  visit_blocks(o.block_q, o.block_kv, v);
}

template <class V>
void visit(RadialOptions& o, V& v) {
  v("decay", o.decay, 0, 1e6, "factor on the window between frames");
  v("first_frame", o.first_frame, "every query sees the first frame");
  visit_mask(o, v);
}

template <class V>
void visit(StaOptions& o, V& v) {
  visit_tile(o, 1, v);
  v("window_frames", o.window_frames, 1, 100000, "tiles of a window in time");
  v("window_rows", o.window_rows, 1, 100000, "tiles of a window in height");
  v("window_cols", o.window_cols, 1, 100000, "tiles of a window in width");
  visit_ragged(o, v);
  visit_mask(o, v);
}

template <class V>
void visit(Svg1Options& o, V& v) {
  v("density", o.density, 0, 1, "share of all pairs that the band is sized for");
  v("tile_frames", o.tile_frames, 0, 100000, "frames in a tile of tokens (0: no reordering)");
  v("tile_places", o.tile_places, 0, 100000, "neighbouring tokens of a frame in a tile");
  v("first_frame", o.first_frame, "every query sees the first frame");
  visit_mask(o, v);
}

// 32, 64 or 128, by name.
Status check_block_sizes(int block_q, int block_kv);
// Sides of a tile of tokens, of which all are 0 (no reordering) or none is. `what` names it.
Status check_tile_sides(const std::string& what, std::initializer_list<int> sides);
// What ragged blocks want of the block sizes.
Status check_ragged(int block_q, int block_kv);
// And where each tile is to be one block: sides that are not 0, and no more tokens than a block.
Status check_ragged_tile(const std::string& what, std::initializer_list<int> sides, int block);

}  // namespace flashomni::strategies

// SPDX-License-Identifier: Apache-2.0
//
// One listing of a strategy's options serves everything: each options struct has a visit() that
// names its fields once, and the visitors here turn that into descriptions, parsing and checks.
#pragma once

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
void visit_blocks(int& block_q, int& block_kv, V& v) {
  v("block_q", block_q, 32, 128, "tokens per query block (32, 64 or 128)");
  v("block_kv", block_kv, 32, 128, "tokens per key/value block (32, 64 or 128)");
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
  v("sim_gate", o.sim_gate, "compute blocks whose tokens are unlike each other");
  v("theta_sim", o.theta_sim, -1, 1, "similarity at or below which the gate acts");
  v("smooth_k", o.smooth_k, "subtract the mean key before pooling");
  v("prime", o.prime, "refresh features in the last dense warm-up steps as well");
  visit(o.schedule, v);
}

template <class V>
void visit(WindowOptions& o, V& v) {
  v("window", o.window, 0, 1 << 30, "tokens on either side that a block sees");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns");
  visit(o.schedule, v);
}

template <class V>
void visit(BlockDiagonalOptions& o, V& v) {
  v("groups", o.groups, 1, 1 << 30, "groups of blocks that see only themselves");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns");
  visit(o.schedule, v);
}

template <class V>
void visit(RandomOptions& o, V& v) {
  v("cached", o.cached, 0, 1, "share of unprotected rows that are cached");
  v("skipped", o.skipped, 0, 1, "share of unprotected pairs that are skipped");
  v("degraded", o.degraded, 0, 1, "share of layers, evenly spread, that degrade");
  v("order", o.order, 0, 3, "Taylor order of the feature forecast");
  v("degrade_order", o.degrade_order, 0, 3, "Taylor order of the reused outputs of such layers");
  v("seed", o.seed, 0, 9.2e18, "seed of the symbols");
  visit_blocks(o.block_q, o.block_kv, v);
  v("protect_text", o.protect_text, "always compute text rows and columns");
  visit(o.schedule, v);
}

// 32, 64 or 128, by name.
Status check_block_sizes(int block_q, int block_kv);

}  // namespace flashomni::strategies

// SPDX-License-Identifier: Apache-2.0
//
// Pyramid Attention Broadcast; see PabOptions. A broadcast is S_c = 0 everywhere: queries, keys,
// values and attention are not computed, and GEMM-O is its bias planes.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/pattern_store.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

struct NamedRange {
  std::string prefix;
  int range = 1;
};

// "prefix=r, prefix=r"
Result<std::vector<NamedRange>> parse_ranges(const std::string& text) {
  std::vector<NamedRange> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    std::string item = text.substr(at, end - at);
    item.erase(0, item.find_first_not_of(' '));
    const size_t equals = item.find('=');
    NamedRange r;
    const char* last = item.data() + item.size();
    if (equals != std::string::npos && equals > 0) {
      r.prefix = item.substr(0, equals);
      const auto parsed = std::from_chars(item.data() + equals + 1, last, r.range);
      if (parsed.ec != std::errc() || parsed.ptr != last || r.range < 1) r.prefix.clear();
    }
    if (r.prefix.empty()) {
      return invalid_argument("ranges has '" + item + "', wanted name=number, number from 1 on");
    }
    out.push_back(std::move(r));
    at = end + 1;
  }
  return out;
}

class PabStrategy : public Strategy {
 public:
  PabStrategy(const PabOptions& o, std::vector<NamedRange> ranges)
      : o_(o), named_(std::move(ranges)) {}
  const char* name() const override { return "pab"; }
  int block_q() const override { return o_.block_q; }
  int block_kv() const override { return o_.block_kv; }

  Status begin_run(const RunInfo& run) override {
    first_ = static_cast<int>(std::ceil(o_.from * run.steps));
    end_ = static_cast<int>(std::floor(o_.to * run.steps));
    ranges_.assign(size_t(run.layers), o_.range);
    for (const NamedRange& n : named_) {
      bool found = false;
      for (size_t l = 0; l < run.layer_names.size(); ++l) {
        if (run.layer_names[l].rfind(n.prefix, 0) != 0) continue;
        ranges_[l] = n.range;
        found = true;
      }
      if (!found) {
        return invalid_argument("strategy pab: no layer is called '" + n.prefix +
                                "...'; the first is " +
                                (run.layer_names.empty() ? "none" : run.layer_names[0]));
      }
    }
    SymbolGeometry g;
    g.batch = run.sequence.batch;
    g.heads = run.sequence.heads;
    g.q_tokens = g.kv_tokens = run.sequence.tokens;
    g.block_q = o_.block_q;
    g.block_kv = o_.block_kv;
    FO_RETURN_IF_ERROR(g.validate());
    SparseSymbols none(g);
    std::fill(none.c_words().begin(), none.c_words().end(), 0);
    none.repair();
    patterns_.clear();
    patterns_.add(std::move(none));
    return ok_status();
  }
  Status prepare(Backend& backend, const Exec& exec) override {
    return patterns_.prepare(backend, exec);
  }
  std::string dense_reason() const override {
    const bool any = std::any_of(ranges_.begin(), ranges_.end(), [](int r) { return r > 1; });
    return any ? "" : "every range is 1, so that every step computes its attention";
  }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = true;
    c.order = o_.order;
    return c;
  }
  StepKind begin_step(const StepContext& step) override {
    return inside(step.step) ? StepKind::kDispatch : StepKind::kFull;
  }
  // Each kind of layer counts for itself, so an Update is a layer's affair, not the step's.
  LayerAction layer_action(const StepContext& step, int layer, int) override {
    const int range = ranges_[size_t(layer)];
    if (!inside(step.step) || range == 1) return LayerAction::kDense;
    const bool due = (step.step - first_) % range == 0;
    return due ? LayerAction::kUpdate : LayerAction::kFollow;
  }
  Status build(const BuildContext& c, SymbolsView out) override { return patterns_.put(c, 0, out); }

 private:
  bool inside(int step) const { return step >= first_ && step < end_; }

  PabOptions o_;
  std::vector<NamedRange> named_;
  std::vector<int> ranges_;  // by layer
  int first_ = 0, end_ = 0;  // steps inside
  strategies::PatternStore patterns_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_pab(const PabOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_ASSIGN_OR_RETURN(std::vector<NamedRange> ranges, parse_ranges(options.ranges));
  return std::unique_ptr<Strategy>(new PabStrategy(options, std::move(ranges)));
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// The paper's policy (arXiv 2509.25401, FLUX form of the authors' example), with the intended
// image-to-text term, per-head order and protected text; see FlashOmniOptions.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

using strategies::text_blocks;
using strategies::UpdateSchedule;

// Backend memory for one build, carved from the scratch the engine gives.
struct Scratch {
  TensorView mean, pooled_q, pooled_k, gate_q, gate_k, scores;
  size_t bytes = 0;

  Scratch(void* base, const SequenceInfo& s, int block_q, int block_kv) {
    char* next = static_cast<char*>(base);
    auto take = [&](DType type, std::initializer_list<int64_t> dims) {
      TensorView v = TensorView::contiguous(base ? next + bytes : nullptr, type, dims);
      bytes += (v.bytes() + 63) / 64 * 64;
      return v;
    };
    const int nq = (s.tokens + block_q - 1) / block_q;
    const int nk = (s.tokens + block_kv - 1) / block_kv;
    mean = take(DType::kF32, {s.batch, s.heads, s.head_dim});
    pooled_q = take(DType::kF32, {s.batch, s.heads, nq, s.head_dim});
    pooled_k = take(DType::kF32, {s.batch, s.heads, nk, s.head_dim});
    gate_q = take(DType::kU8, {s.batch, s.heads, nq});
    gate_k = take(DType::kU8, {s.batch, s.heads, nk});
    scores = take(DType::kF32, {s.batch, s.heads, nq, nk});
  }
};

class FlashOmniStrategy : public Strategy {
 public:
  explicit FlashOmniStrategy(const FlashOmniOptions& options) : o_(options) {}

  const char* name() const override { return "flashomni"; }
  int block_q() const override { return o_.block_q; }
  int block_kv() const override { return o_.block_kv; }

  Status begin_run(const RunInfo& run) override {
    schedule_ = UpdateSchedule(o_.schedule, run.steps);
    has_text_ = run.sequence.text_end > run.sequence.text_begin;
    return ok_status();
  }

  std::string dense_reason() const override {
    if (o_.tau_q <= 0 && o_.tau_kv <= 0) return "tau_q and tau_kv are both 0";
    if (!has_text_ && o_.tau_kv <= 0) {
      return "the sequence holds no text, so no row can be scored for caching, and tau_kv is 0";
    }
    return {};
  }

  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = o_.tau_q > 0;
    c.order = o_.order;
    c.degrade = o_.S_q > 0 && o_.tau_q > 0;
    c.degrade_density = o_.S_q;
    c.degrade_order = o_.degrade_order;
    if (o_.prime) {
      const int depth = std::max(o_.order, c.degrade ? o_.degrade_order : 0);
      c.refresh_full_from = std::max(0, schedule_.warmup() - 1 - depth);
    }
    return c;
  }

  size_t scratch_bytes(const SequenceInfo& s) const override {
    return Scratch(nullptr, s, o_.block_q, o_.block_kv).bytes;
  }

  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }

  Status build(const BuildContext& c, SymbolsView out) override {
    Backend& b = *c.backend;
    const Scratch w(c.scratch, c.sequence, o_.block_q, o_.block_kv);
    const double progress = std::pow(double(c.step.step) / c.step.steps, o_.ramp);
    const BlockRange text_q = text_blocks(c.sequence, o_.block_q);
    const BlockRange text_kv = text_blocks(c.sequence, o_.block_kv);

    if (o_.smooth_k) FO_RETURN_IF_ERROR(b.token_mean(c.exec, {c.k, w.mean}));
    PoolParams q{.x = c.q, .block = o_.block_q, .out = w.pooled_q};
    PoolParams k{.x = c.k, .block = o_.block_kv, .out = w.pooled_k};
    if (o_.smooth_k) k.mean = w.mean;
    if (o_.sim_gate) {
      q.gate = w.gate_q;
      k.gate = w.gate_k;
      q.theta_sim = k.theta_sim = static_cast<float>(o_.theta_sim);
    }
    FO_RETURN_IF_ERROR(b.pool_pair(c.exec, q, k));
    FO_RETURN_IF_ERROR(b.block_scores(c.exec, {.q = w.pooled_q, .k = w.pooled_k, .out = w.scores}));

    // A threshold of exactly 0 still drops blocks whose weight underflows to 0; "off" must not.
    // Negative thresholds drop nothing.
    const bool cache = o_.tau_q > 0 && has_text_;
    FO_RETURN_IF_ERROR(b.select_cached_rows(
        c.exec, {.scores = w.scores,
                 .text_q = text_q,
                 .text_kv = text_kv,
                 .mode = o_.text_score == "softmax_of_sum" ? TextScoreMode::kSoftmaxOfSum
                                                           : TextScoreMode::kMeanOfSoftmaxes,
                 .theta = cache ? static_cast<float>(o_.tau_q * progress) : -1.f,
                 .gate_q = o_.sim_gate ? w.gate_q : TensorView{},
                 .symbols = out}));
    SelectKvBlocksParams kv{.scores = w.scores, .rule = SelectRule::kDropCdf, .symbols = out};
    kv.parameter = o_.tau_kv > 0 ? static_cast<float>(o_.tau_kv * progress) : -1.f;
    if (o_.protect_text) {
      kv.keep_q = text_q;
      kv.keep_kv = text_kv;
    }
    if (o_.sim_gate) {
      kv.gate_q = w.gate_q;
      kv.gate_kv = w.gate_k;
    }
    return b.select_kv_blocks(c.exec, kv);
  }

 private:
  FlashOmniOptions o_;
  UpdateSchedule schedule_;
  bool has_text_ = true;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_flashomni(const FlashOmniOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  if (options.text_score != "mean_of_softmaxes" && options.text_score != "softmax_of_sum") {
    return invalid_argument("text_score is '" + options.text_score +
                            "', wanted mean_of_softmaxes or softmax_of_sum");
  }
  return std::unique_ptr<Strategy>(new FlashOmniStrategy(options));
}

}  // namespace flashomni

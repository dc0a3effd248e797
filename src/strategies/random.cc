// SPDX-License-Identifier: Apache-2.0
//
// Random symbols with exact counts (the published benchmark's pattern), fresh for every layer,
// stream and Update, the same for the same seed.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "base/rng.h"
#include "strategies/options.h"
#include "strategies/pattern_store.h"
#include "strategies/static_pattern.h"

namespace flashomni {
namespace {

// Moves `count` random entries to the front.
template <class T>
void shuffle_front(std::vector<T>& items, size_t count, Rng& rng) {
  for (size_t i = 0; i < count; ++i) std::swap(items[i], items[i + rng.below(items.size() - i)]);
}

class RandomStrategy : public Strategy {
 public:
  explicit RandomStrategy(const RandomOptions& options) : o_(options) {}
  const char* name() const override { return "random"; }
  int block_q() const override { return o_.block_q; }
  int block_kv() const override { return o_.block_kv; }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.features = o_.cached > 0;
    c.order = o_.order;
    c.degrade = o_.degraded > 0;
    // Only text rows remain in the layers that are to degrade.
    c.degrade_density = degrade_density_;
    c.degrade_order = o_.degrade_order;
    return c;
  }

  // All symbols of the run are made now, by all cores: a long sequence has millions of pairs, and
  // an Update on a GPU should not wait for them.
  Status begin_run(const RunInfo& run) override {
    schedule_ = strategies::UpdateSchedule(o_.schedule, run.steps);
    patterns_.clear();
    indices_.clear();
    first_.assign(size_t(run.steps), -1);
    std::vector<Place> places;
    for (int step = 0; step < run.steps; ++step) {
      if (schedule_.kind(step) != StepKind::kUpdate) continue;
      first_[size_t(step)] = static_cast<int64_t>(places.size());
      for (int stream = 0; stream < run.streams; ++stream) {
        for (int layer = 0; layer < run.layers; ++layer) places.push_back({step, layer, stream});
      }
    }
    layers_ = run.layers;
    const SymbolGeometry g = geometry(run.sequence);
    FO_RETURN_IF_ERROR(g.validate());
    const BlockRange text = protected_blocks(run.sequence, o_.block_q);
    degrade_density_ = double(text.size()) / g.num_q_blocks();
    if (o_.degraded > 0 && degrade_density_ > kMostText) {
      return unsupported("layers that keep " + std::to_string(text.size()) + " of " +
                         std::to_string(g.num_q_blocks()) +
                         " rows for the text cannot be told from others to degrade");
    }
    std::vector<SparseSymbols> made(places.size());
    ThreadPool threads;
    threads.run(static_cast<int64_t>(places.size()), [&](int64_t i, int) {
      made[size_t(i)] = make(run.sequence, g, places[size_t(i)]);
    });
    for (SparseSymbols& symbols : made) indices_.push_back(patterns_.add(std::move(symbols)));
    return ok_status();
  }
  Status prepare(Backend& backend, const Exec& exec) override {
    return patterns_.prepare(backend, exec);
  }
  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }

  Status build(const BuildContext& c, SymbolsView out) override {
    const auto step = size_t(c.step.step);
    const int64_t first = step < first_.size() ? first_[step] : -1;
    const int64_t i = first + int64_t{c.stream} * layers_ + c.layer;
    if (first < 0 || i >= static_cast<int64_t>(indices_.size())) {
      return strategies::upload_symbols(
          c, make(c.sequence, out.geometry, {c.step.step, c.layer, c.stream}), out);
    }
    return patterns_.put(c, indices_[size_t(i)], out);
  }

 private:
  static constexpr double kMostText = 0.3;  // share of rows

  struct Place {
    int step, layer, stream;
  };

  SymbolGeometry geometry(const SequenceInfo& s) const {
    SymbolGeometry g;
    g.batch = s.batch;
    g.heads = s.heads;
    g.q_tokens = g.kv_tokens = s.tokens;
    g.block_q = o_.block_q;
    g.block_kv = o_.block_kv;
    return g;
  }
  BlockRange protected_blocks(const SequenceInfo& s, int block) const {
    return o_.protect_text ? strategies::text_blocks(s, block) : BlockRange{};
  }
  // Every 1/degraded-th layer.
  bool degrades(int layer) const {
    return std::floor((layer + 1) * o_.degraded) > std::floor(layer * o_.degraded);
  }

  SparseSymbols make(const SequenceInfo& s, const SymbolGeometry& g, const Place& at) const {
    const BlockRange text_q = protected_blocks(s, o_.block_q);
    const BlockRange text_kv = protected_blocks(s, o_.block_kv);
    Rng rng(uint64_t(o_.seed) * 0x9e3779b97f4a7c15ull + uint64_t(at.step) * 1000003 +
            uint64_t(at.layer) * 1009 + uint64_t(at.stream));
    SparseSymbols symbols(g);

    std::vector<std::pair<int, int>> rows;  // (b * heads + h, i)
    for (int bh = 0; bh < g.batch * g.heads; ++bh) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        if (!text_q.contains(i)) rows.emplace_back(bh, i);
      }
    }
    const double share = degrades(at.layer) ? 1 : o_.cached;
    const size_t cached = static_cast<size_t>(share * double(rows.size()));
    shuffle_front(rows, cached, rng);
    for (size_t r = 0; r < cached; ++r) {
      symbols.set_c(rows[r].first / g.heads, rows[r].first % g.heads, rows[r].second, false);
    }
    // Pairs one after another, each with the chance that is left: exact counts without a list of
    // them, which for long sequences would be slower than all else here together.
    size_t pairs = (rows.size() - cached) * size_t(g.num_kv_blocks() - text_kv.size());
    size_t skipped = static_cast<size_t>(o_.skipped * double(pairs));
    for (size_t r = cached; r < rows.size(); ++r) {
      const auto [bh, i] = rows[r];
      for (int j = 0; j < g.num_kv_blocks(); ++j) {
        if (text_kv.contains(j)) continue;
        if (rng.below(pairs--) >= skipped) continue;
        symbols.set_s(bh / g.heads, bh % g.heads, i, j, false);
        --skipped;
      }
    }
    symbols.repair();
    return symbols;
  }

  RandomOptions o_;
  strategies::UpdateSchedule schedule_;
  int layers_ = 0;
  double degrade_density_ = 0;
  std::vector<int64_t> first_;  // by step: its first entry of indices_, -1 without any
  std::vector<int> indices_;    // into patterns_, by Update, stream and layer
  strategies::PatternStore patterns_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_random(const RandomOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new RandomStrategy(options));
}

}  // namespace flashomni

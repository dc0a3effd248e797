// SPDX-License-Identifier: Apache-2.0
//
// Random symbols with exact counts (the published benchmark's pattern), fresh for every layer,
// stream and Update, the same for the same seed.
#include <utility>
#include <vector>

#include "base/rng.h"
#include "strategies/options.h"
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
    return c;
  }
  Status begin_run(const RunInfo& run) override {
    schedule_ = strategies::UpdateSchedule(o_.schedule, run.steps);
    return ok_status();
  }
  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }

  Status build(const BuildContext& c, SymbolsView out) override {
    const SymbolGeometry& g = out.geometry;
    const BlockRange text_q =
        o_.protect_text ? strategies::text_blocks(c.sequence, o_.block_q) : BlockRange{};
    const BlockRange text_kv =
        o_.protect_text ? strategies::text_blocks(c.sequence, o_.block_kv) : BlockRange{};
    Rng rng(uint64_t(o_.seed) * 0x9e3779b97f4a7c15ull + uint64_t(c.step.step) * 1000003 +
            uint64_t(c.layer) * 1009 + uint64_t(c.stream));
    SparseSymbols symbols(g);

    std::vector<std::pair<int, int>> rows;  // (b * heads + h, i)
    for (int bh = 0; bh < g.batch * g.heads; ++bh) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        if (!text_q.contains(i)) rows.emplace_back(bh, i);
      }
    }
    const size_t cached = static_cast<size_t>(o_.cached * double(rows.size()));
    shuffle_front(rows, cached, rng);
    for (size_t r = 0; r < cached; ++r) {
      symbols.set_c(rows[r].first / g.heads, rows[r].first % g.heads, rows[r].second, false);
    }
    std::vector<std::pair<int, int>> pairs;  // (index into rows, j)
    for (size_t r = cached; r < rows.size(); ++r) {
      for (int j = 0; j < g.num_kv_blocks(); ++j) {
        if (!text_kv.contains(j)) pairs.emplace_back(int(r), j);
      }
    }
    const size_t skipped = static_cast<size_t>(o_.skipped * double(pairs.size()));
    shuffle_front(pairs, skipped, rng);
    for (size_t p = 0; p < skipped; ++p) {
      const auto [bh, i] = rows[size_t(pairs[p].first)];
      symbols.set_s(bh / g.heads, bh % g.heads, i, pairs[p].second, false);
    }
    symbols.repair();
    return strategies::upload_symbols(c, symbols, out);
  }

 private:
  RandomOptions o_;
  strategies::UpdateSchedule schedule_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_random(const RandomOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new RandomStrategy(options));
}

}  // namespace flashomni

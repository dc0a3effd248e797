// SPDX-License-Identifier: Apache-2.0
//
// What strategies whose symbols are made on the host share: they are built once a run (or once an
// Update) and copied to the backend.
#pragma once

#include "flashomni/strategies.h"
#include "strategies/pattern_store.h"
#include "strategies/schedule.h"

namespace flashomni::strategies {

// Clears symbols outside the text protection: calls keep(i, j) for every unprotected pair.
template <class Keep>
SparseSymbols make_pattern(const SequenceInfo& s, int block_q, int block_kv, bool protect_text,
                           const Keep& keep) {
  SymbolGeometry g;
  g.batch = s.batch;
  g.heads = s.heads;
  g.q_tokens = g.kv_tokens = s.tokens;
  g.block_q = block_q;
  g.block_kv = block_kv;
  SparseSymbols out(g);
  const BlockRange text_q = protect_text ? text_blocks(s, block_q) : BlockRange{};
  const BlockRange text_kv = protect_text ? text_blocks(s, block_kv) : BlockRange{};
  for (int i = 0; i < g.num_q_blocks(); ++i) {
    if (text_q.contains(i)) continue;
    for (int j = 0; j < g.num_kv_blocks(); ++j) {
      if (text_kv.contains(j) || keep(i, j)) continue;
      for (int b = 0; b < g.batch; ++b) {
        for (int h = 0; h < g.heads; ++h) out.set_s(b, h, i, j, false);
      }
    }
  }
  out.repair();
  return out;
}

// Copies host symbols into the backend's.
inline Status upload_symbols(const BuildContext& c, const SparseSymbols& from, SymbolsView to) {
  if (!(from.geometry() == to.geometry)) {
    return internal_error("symbols were built for another sequence");
  }
  FO_RETURN_IF_ERROR(
      c.backend->upload(c.exec, to.c, from.c_words().data(), from.c_words().size_bytes()));
  return c.backend->upload(c.exec, to.s, from.s_words().data(), from.s_words().size_bytes());
}

// A pattern that depends on the sequence only: built in begin_run, the same for all layers.
class StaticStrategy : public Strategy {
 public:
  StaticStrategy(int block_q, int block_kv, const ScheduleOptions& schedule)
      : block_q_(block_q), block_kv_(block_kv), schedule_options_(schedule) {}

  int block_q() const override { return block_q_; }
  int block_kv() const override { return block_kv_; }
  CacheSpec cache_spec() const override { return {}; }
  StepKind begin_step(const StepContext& step) override { return schedule_.kind(step.step); }
  Status begin_run(const RunInfo& run) override {
    schedule_ = UpdateSchedule(schedule_options_, run.steps);
    patterns_.clear();
    patterns_.add(pattern(run.sequence));
    return ok_status();
  }
  Status prepare(Backend& backend, const Exec& exec) override {
    return patterns_.prepare(backend, exec);
  }
  Status build(const BuildContext& c, SymbolsView out) override { return patterns_.put(c, 0, out); }

 protected:
  virtual SparseSymbols pattern(const SequenceInfo& sequence) const = 0;
  int block_q_;
  int block_kv_;

 private:
  ScheduleOptions schedule_options_;
  UpdateSchedule schedule_;
  PatternStore patterns_;
};

}  // namespace flashomni::strategies

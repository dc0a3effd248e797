// SPDX-License-Identifier: Apache-2.0
#include "strategies/flashomni_policy.h"

#include "strategies/schedule.h"

namespace flashomni::strategies {
namespace {

// S_c from a score that needs no text. Without the tensors of an earlier refresh nothing is known
// of a row, so nothing is cached.
Status select_by_score(const BuildContext& c, const PolicyOptions& o, const PolicyScratch& w,
                       const BlockRange& text_q, SymbolsView out) {
  Backend& b = *c.backend;
  double theta = o.theta_q;
  if (o.row_score == RowScore::kColumnMass) {
    FO_RETURN_IF_ERROR(b.column_mass(c.exec, {.scores = w.pooled.scores,
                                              .block_q = o.pooling.block_q,
                                              .block_kv = o.pooling.block_kv,
                                              .out = w.rows}));
  } else {
    const bool change = o.row_score == RowScore::kChange;
    const TensorView& other = change ? c.previous : c.forecast;
    if (!other || !c.attention) {
      theta = -1;
      FO_RETURN_IF_ERROR(b.column_mass(c.exec, {.scores = w.pooled.scores,
                                                .block_q = o.pooling.block_q,
                                                .block_kv = o.pooling.block_kv,
                                                .out = w.rows}));
    } else {
      BlockChangeParams p{.x = other, .y = c.attention, .block = o.pooling.block_q};
      p.relative = change;
      p.out = w.rows;
      FO_RETURN_IF_ERROR(b.block_change(c.exec, p));
    }
  }
  return b.select_rows(c.exec, {.scores = w.rows,
                                .theta = static_cast<float>(theta),
                                .keep = text_q,
                                .gate_q = o.pooling.gate ? w.pooled.gate_q : TensorView{},
                                .symbols = out});
}

}  // namespace

Result<RowScore> parse_row_score(const std::string& name) {
  if (name == "text") return RowScore::kText;
  if (name == "column_mass") return RowScore::kColumnMass;
  if (name == "change") return RowScore::kChange;
  if (name == "forecast_error") return RowScore::kForecastError;
  return invalid_argument("row_score is '" + name +
                          "', wanted text, column_mass, change or forecast_error");
}

size_t policy_scratch_bytes(const SequenceInfo& s, int block_q, int block_kv) {
  ScratchArena arena(nullptr);
  const PolicyScratch scratch(arena, s, block_q, block_kv);
  return arena.bytes();
}

Status build_policy(const BuildContext& c, const PolicyOptions& o, SymbolsView out) {
  ScratchArena arena(c.scratch);
  const PolicyScratch w(arena, c.sequence, o.pooling.block_q, o.pooling.block_kv);
  const BlockRange text_q = text_blocks(c.sequence, o.pooling.block_q);
  const BlockRange text_kv = text_blocks(c.sequence, o.pooling.block_kv);
  FO_RETURN_IF_ERROR(pooled_scores(c, o.pooling, w.pooled));
  if (o.row_score == RowScore::kText) {
    FO_RETURN_IF_ERROR(c.backend->select_cached_rows(
        c.exec, {.scores = w.pooled.scores,
                 .text_q = text_q,
                 .text_kv = text_kv,
                 .mode = o.text_mode,
                 .theta = static_cast<float>(o.theta_q),
                 .gate_q = o.pooling.gate ? w.pooled.gate_q : TensorView{},
                 .symbols = out}));
  } else {
    FO_RETURN_IF_ERROR(select_by_score(c, o, w, text_q, out));
  }
  SelectKvBlocksParams kv{.scores = w.pooled.scores, .rule = SelectRule::kDropCdf, .symbols = out};
  kv.parameter = static_cast<float>(o.theta_kv);
  if (o.protect_text) {
    kv.keep_q = text_q;
    kv.keep_kv = text_kv;
  }
  if (o.pooling.gate) {
    kv.gate_q = w.pooled.gate_q;
    kv.gate_kv = w.pooled.gate_k;
  }
  return c.backend->select_kv_blocks(c.exec, kv);
}

}  // namespace flashomni::strategies

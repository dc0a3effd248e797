// SPDX-License-Identifier: Apache-2.0
#include "reference/select_symbols.h"

#include <algorithm>
#include <cstddef>

#include "reference/select_rules.h"

namespace flashomni::reference {
namespace {

bool share_a_token(const ScoreShape& shape, int i, int j) {
  return i * shape.block_q < (j + 1) * shape.block_kv &&
         j * shape.block_kv < (i + 1) * shape.block_q;
}

template <class Real>
std::vector<uint8_t> apply_rule(Rule rule, const std::vector<Real>& p, double parameter) {
  switch (rule) {
    case Rule::kDropCdf:
      return drop_cdf(p, parameter);
    case Rule::kKeepCdfLt:
      return keep_cdf_lt(p, parameter);
    case Rule::kKeepCdfGe:
      return keep_cdf_ge(p, parameter);
    case Rule::kTopK:
      return keep_top_k(p, static_cast<int>(parameter));
  }
  return {};
}

// The rule on one row of scores; columns with gate 0 do not take part and are kept.
template <class Real>
std::vector<uint8_t> select_row(const KvBlocksInput<Real>& in, const Real* z, const uint8_t* gate) {
  std::vector<int> candidates;
  std::vector<Real> candidate_scores;
  for (int j = 0; j < in.shape.num_kv; ++j) {
    if (gate && !gate[j]) continue;
    candidates.push_back(j);
    candidate_scores.push_back(z[j]);
  }
  std::vector<uint8_t> row(in.shape.num_kv, 1);
  if (candidates.empty()) return row;
  const std::vector<uint8_t> keep = apply_rule(in.rule, softmax(candidate_scores), in.parameter);
  for (size_t n = 0; n < candidates.size(); ++n) row[candidates[n]] = keep[n];
  return row;
}

}  // namespace

template <class Real>
std::vector<uint8_t> select_cached_rows(const CachedRowsInput<Real>& in) {
  const ScoreShape& shape = in.shape;
  std::vector<uint8_t> c(static_cast<size_t>(shape.batch) * shape.heads * shape.num_q, 1);
  if (in.text_q.empty() || in.text_kv.empty()) return c;
  for (int head = 0; head < shape.batch * shape.heads; ++head) {
    const size_t first_row = static_cast<size_t>(head) * shape.num_q;
    const auto z = [&](int i, int j) { return in.scores[(first_row + i) * shape.num_kv + j]; };

    std::vector<int> vision;
    std::vector<Real> from_text, to_text, both;
    for (int i = 0; i < shape.num_q; ++i) {
      if (in.text_q.contains(i)) continue;
      Real u = 0;
      Real w = 0;
      for (int j = 0; j < shape.num_kv; ++j) {
        if (share_a_token(shape, i, j)) {
          for (int r = in.text_q.begin; r < in.text_q.end; ++r) u += z(r, j);
        }
        if (in.text_kv.contains(j)) w += z(i, j);
      }
      vision.push_back(i);
      from_text.push_back(u);
      to_text.push_back(w);
      both.push_back(u + w);
    }
    if (vision.empty()) continue;

    std::vector<Real> importance = softmax(both);
    if (in.mode == TextScore::kMeanOfSoftmaxes) {
      const std::vector<Real> a = softmax(from_text);
      const std::vector<Real> b = softmax(to_text);
      for (size_t n = 0; n < vision.size(); ++n) importance[n] = (a[n] + b[n]) / 2;
    }
    const std::vector<uint8_t> keep = drop_cdf(importance, in.theta);
    for (size_t n = 0; n < vision.size(); ++n) {
      const size_t row = first_row + vision[n];
      const bool gated_off = !in.gate_q.empty() && !in.gate_q[row];
      c[row] = keep[n] || gated_off;
    }
  }
  return c;
}

template <class Real>
std::vector<uint8_t> select_kv_blocks(const KvBlocksInput<Real>& in) {
  const ScoreShape& shape = in.shape;
  std::vector<uint8_t> s;
  for (int head = 0; head < shape.batch * shape.heads; ++head) {
    for (int i = 0; i < shape.num_q; ++i) {
      const size_t row_index = static_cast<size_t>(head) * shape.num_q + i;
      const uint8_t* gate_kv =
          in.gate_kv.empty() ? nullptr : &in.gate_kv[static_cast<size_t>(head) * shape.num_kv];
      std::vector<uint8_t> row = select_row(in, &in.scores[row_index * shape.num_kv], gate_kv);

      const bool keep_row = in.keep_q.contains(i) || (!in.gate_q.empty() && !in.gate_q[row_index]);
      for (int j = 0; j < shape.num_kv; ++j) {
        if (keep_row || in.keep_kv.contains(j)) row[j] = 1;
      }

      if (!in.c[row_index]) {
        std::fill(row.begin(), row.end(), uint8_t{0});
      } else if (std::find(row.begin(), row.end(), 1) == row.end()) {
        row[std::min(i * shape.block_q / shape.block_kv, shape.num_kv - 1)] = 1;
      }
      s.insert(s.end(), row.begin(), row.end());
    }
  }
  return s;
}

#define FO_INSTANTIATE(Real)                                                      \
  template std::vector<uint8_t> select_cached_rows(const CachedRowsInput<Real>&); \
  template std::vector<uint8_t> select_kv_blocks(const KvBlocksInput<Real>&);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference

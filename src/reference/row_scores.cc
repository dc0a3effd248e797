// SPDX-License-Identifier: Apache-2.0
#include "reference/row_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "reference/select_rules.h"

namespace flashomni::reference {
namespace {

std::vector<double> row_of(const std::vector<double>& matrix, int row, int columns) {
  return {matrix.begin() + std::ptrdiff_t{row} * columns,
          matrix.begin() + std::ptrdiff_t{row + 1} * columns};
}

}  // namespace

std::vector<double> antidiagonal_mass(int tokens, int head_dim, int stride, int block_q,
                                      int block_kv, const std::vector<double>& q,
                                      const std::vector<double>& k, double scale) {
  const int groups = (tokens + stride - 1) / stride;
  const size_t length = size_t(stride) * head_dim;
  // The concatenated rows of the paper, zero past the end.
  std::vector<std::vector<double>> qs(groups, std::vector<double>(length, 0)), ks = qs;
  for (int m = 0; m < groups; ++m) {
    for (int r = 0; r < stride; ++r) {
      const int reversed = m * stride + (stride - 1 - r), forward = m * stride + r;
      for (int c = 0; c < head_dim; ++c) {
        const size_t to = size_t(r) * head_dim + c;
        if (reversed < tokens) qs[m][to] = q[size_t(reversed) * head_dim + c];
        if (forward < tokens) ks[m][to] = k[size_t(forward) * head_dim + c];
      }
    }
  }
  const int nq = (tokens + block_q - 1) / block_q, nkv = (tokens + block_kv - 1) / block_kv;
  std::vector<double> out(size_t(nq) * nkv, 0);
  for (int m = 0; m < groups; ++m) {
    std::vector<double> logits(groups, 0);
    for (int n = 0; n < groups; ++n) {
      for (size_t c = 0; c < length; ++c) logits[n] += scale * qs[m][c] * ks[n][c];
    }
    const std::vector<double> p = softmax(logits);
    for (int n = 0; n < groups; ++n) {
      out[size_t(m * stride / block_q) * nkv + n * stride / block_kv] += p[n];
    }
  }
  return out;
}

std::vector<double> column_mass(const ScoreShape& shape, const std::vector<double>& scores) {
  std::vector<double> out;
  for (int head = 0; head < shape.batch * shape.heads; ++head) {
    std::vector<double> received(shape.num_kv, 0);
    for (int r = 0; r < shape.num_q; ++r) {
      const auto p = softmax(row_of(scores, head * shape.num_q + r, shape.num_kv));
      for (int j = 0; j < shape.num_kv; ++j) received[j] += p[j];
    }
    for (int i = 0; i < shape.num_q; ++i) {
      double sum = 0;
      for (int j = 0; j < shape.num_kv; ++j) {
        const bool shared = i * shape.block_q < (j + 1) * shape.block_kv &&
                            j * shape.block_kv < (i + 1) * shape.block_q;
        if (shared) sum += received[j];
      }
      out.push_back(sum);
    }
  }
  return out;
}

std::vector<double> block_change(int tokens, int heads, int head_dim, int block, bool relative,
                                 const std::vector<double>& x, const std::vector<double>& y) {
  const int blocks = (tokens + block - 1) / block;
  std::vector<double> difference(size_t(heads) * blocks, 0), magnitude = difference;
  for (int t = 0; t < tokens; ++t) {
    for (int h = 0; h < heads; ++h) {
      for (int c = 0; c < head_dim; ++c) {
        const size_t at = (size_t(t) * heads + h) * head_dim + c;
        difference[size_t(h) * blocks + t / block] += std::fabs(x[at] - y[at]);
        magnitude[size_t(h) * blocks + t / block] += std::fabs(y[at]);
      }
    }
  }
  if (!relative) return difference;
  for (size_t i = 0; i < difference.size(); ++i) {
    if (magnitude[i] > 0) {
      difference[i] /= magnitude[i];
    } else {
      difference[i] = difference[i] > 0 ? 1 : 0;
    }
  }
  return difference;
}

std::vector<uint8_t> select_rows(const std::vector<double>& scores, double theta, Blocks keep,
                                 const std::vector<uint8_t>& gate) {
  std::vector<uint8_t> c(scores.size(), 1);
  if (!(theta >= 0)) return c;
  std::vector<size_t> rows;
  std::vector<double> weights;
  double sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (keep.contains(int(i)) || !std::isfinite(scores[i]) || scores[i] < 0) continue;
    rows.push_back(i);
    weights.push_back(scores[i]);
    sum += scores[i];
  }
  for (double& w : weights) w = sum > 0 ? w / sum : 1.0 / double(weights.size());
  if (rows.empty()) return c;
  const std::vector<uint8_t> kept = drop_cdf(weights, theta);
  for (size_t n = 0; n < rows.size(); ++n) {
    c[rows[n]] = kept[n] || (!gate.empty() && !gate[rows[n]]);
  }
  return c;
}

std::vector<uint8_t> select_kv_share(const ScoreShape& shape, const std::vector<double>& scores,
                                     double share, Blocks keep_q, Blocks keep_kv,
                                     const std::vector<uint8_t>& c) {
  std::vector<double> p(scores.size(), 2);  // 2: above any threshold
  std::vector<double> free_entries;
  for (int i = 0; i < shape.num_q; ++i) {
    if (!c[i] || keep_q.contains(i)) continue;
    std::vector<double> row;
    for (int j = 0; j < shape.num_kv; ++j) {
      if (!keep_kv.contains(j)) row.push_back(scores[size_t(i) * shape.num_kv + j]);
    }
    if (row.empty()) continue;
    row = softmax(row);
    size_t n = 0;
    for (int j = 0; j < shape.num_kv; ++j) {
      if (keep_kv.contains(j)) continue;
      p[size_t(i) * shape.num_kv + j] = row[n];
      free_entries.push_back(row[n++]);
    }
  }
  std::sort(free_entries.begin(), free_entries.end());
  const auto k = size_t(std::floor(share * double(free_entries.size())));
  const double threshold = k > 0 ? free_entries[k - 1] : 0;
  std::vector<uint8_t> s(scores.size(), 0);
  for (int i = 0; i < shape.num_q; ++i) {
    if (!c[i]) continue;
    bool any = false;
    for (int j = 0; j < shape.num_kv; ++j) {
      const size_t at = size_t(i) * shape.num_kv + j;
      s[at] = p[at] >= threshold;
      any = any || s[at];
    }
    if (!any) {
      const int diagonal = std::min(i * shape.block_q / shape.block_kv, shape.num_kv - 1);
      s[size_t(i) * shape.num_kv + diagonal] = 1;
    }
  }
  return s;
}

int best_pattern(const ScoreShape& shape, const std::vector<double>& scores, Blocks keep_q,
                 const std::vector<std::vector<uint8_t>>& patterns, const std::vector<uint8_t>& c) {
  std::vector<double> mass(patterns.size(), 0);
  for (int i = 0; i < shape.num_q; ++i) {
    if (!c[i] || keep_q.contains(i)) continue;
    const std::vector<double> p = softmax(row_of(scores, i, shape.num_kv));
    for (size_t n = 0; n < patterns.size(); ++n) {
      for (int j = 0; j < shape.num_kv; ++j) {
        if (patterns[n][size_t(i) * shape.num_kv + j]) mass[n] += p[j];
      }
    }
  }
  return int(std::max_element(mass.begin(), mass.end()) - mass.begin());
}

}  // namespace flashomni::reference

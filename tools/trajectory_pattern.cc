// SPDX-License-Identifier: Apache-2.0
#include "tools/trajectory_pattern.h"

#include <cmath>

#include "tools/table.h"

namespace flashomni::tools {
namespace {

// Share of the blocks that hold no text.
double unprotected(const SequenceInfo& s, int block) {
  const int blocks = (s.tokens + block - 1) / block;
  const int begin = s.text_begin / block, end = (s.text_end + block - 1) / block;
  return s.text_end > s.text_begin ? 1 - double(end - begin) / blocks : 1;
}

int dispatch_steps(const TrajectoryPattern& p) {
  int count = 0;
  for (int step = p.warmup; step < p.steps - 1; ++step) {
    count += (step - p.warmup + 1) % p.interval != 0;
  }
  return count;
}

}  // namespace

Result<E2eWay> make_trajectory_way(const TrajectoryPattern& p, const SequenceInfo& sequence,
                                   int layers) {
  const int dispatch = dispatch_steps(p);
  const double whole_layers = std::floor(layers * p.degraded + 1e-9) / layers;
  // In one Dispatch step, over the layers that do not degrade.
  const double wanted =
      dispatch > 0 ? (p.sparsity * p.steps / dispatch - whole_layers) / (1 - whole_layers) : 2;
  const double u = unprotected(sequence, p.block);
  RandomOptions o;
  double most = u;
  if (p.split == "s_c") {
    o.cached = wanted / u;
    o.skipped = 0;
  } else if (p.split == "s_s") {
    o.cached = 0;
    o.skipped = wanted / (u * u);
    most = u * u;
  } else {
    o.cached = wanted / 2 / u;
    o.skipped = wanted / 2 / (u * u * (1 - o.cached));
  }
  if (wanted < 0 || o.cached > 1 || o.skipped > 1 || o.cached < 0 || o.skipped < 0) {
    const double limit = (most * (1 - whole_layers) + whole_layers) * dispatch / p.steps;
    return invalid_argument("an attention sparsity of " + fixed(p.sparsity, 3) + " over " +
                            std::to_string(p.steps) + " steps, " + std::to_string(dispatch) +
                            " of them Dispatch steps, by " + p.split + " and with " +
                            percent(whole_layers) + " of the layers degraded; wanted " +
                            fixed(whole_layers * dispatch / p.steps, 3) + " to " + fixed(limit, 3));
  }
  E2eWay way;
  way.pattern = p.split;
  if (p.degraded > 0) way.pattern += " + " + fixed(100 * whole_layers, 0) + " % degraded";
  way.choice.name = "random";
  way.choice.options = {{"cached", o.cached},
                        {"skipped", o.skipped},
                        {"degraded", p.degraded},
                        {"order", int64_t{p.order}},
                        {"degrade_order", int64_t{p.degrade_order}},
                        {"block_q", int64_t{p.block}},
                        {"block_kv", int64_t{p.block}},
                        {"warmup", int64_t{p.warmup}},
                        {"interval", int64_t{p.interval}},
                        {"schedule_steps", int64_t{0}}};
  return way;
}

}  // namespace flashomni::tools

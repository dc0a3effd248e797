// SPDX-License-Identifier: Apache-2.0
#include "tools/profile_text.h"

#include <algorithm>

#include "tools/table.h"

namespace flashomni::tools {

std::string profile_text(const std::vector<ProfileRow>& rows, double total_seconds,
                         double peak_flops) {
  std::vector<ProfileRow> ops;
  for (const ProfileRow& r : rows) {
    const auto same =
        std::find_if(ops.begin(), ops.end(), [&](const ProfileRow& o) { return o.op == r.op; });
    if (same == ops.end()) {
      ops.push_back(r);
      continue;
    }
    same->calls += r.calls;
    same->seconds += r.seconds;
    same->flops += r.flops;
  }
  std::sort(ops.begin(), ops.end(),
            [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  Table table({"operation", "calls", "seconds", "share", "GFLOP/s (dense)", "of peak"});
  double sum = 0;
  for (const ProfileRow& o : ops) {
    const double rate = o.seconds > 0 ? o.flops / o.seconds : 0;
    table.add({o.op, std::to_string(o.calls), fixed(o.seconds, 3),
               percent(o.seconds / total_seconds), rate > 0 ? fixed(rate * 1e-9, 0) : "-",
               rate > 0 && peak_flops > 0 ? percent(rate / peak_flops) : "-"});
    sum += o.seconds;
  }
  table.add({"everything else", "", fixed(total_seconds - sum, 3), percent(1 - sum / total_seconds),
             "-", "-"});
  return table.text();
}

nlohmann::json profile_json(const std::vector<ProfileRow>& rows) {
  nlohmann::json out = nlohmann::json::array();
  for (const ProfileRow& r : rows) {
    out.push_back({{"op", r.op},
                   {"scope", r.scope},
                   {"calls", r.calls},
                   {"seconds", r.seconds},
                   {"dense_flops", r.flops}});
  }
  return out;
}

}  // namespace flashomni::tools

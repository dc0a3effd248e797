// SPDX-License-Identifier: Apache-2.0
#include "reports/run_detail.h"

#include <cmath>

#include "io/json.h"
#include "pipelines/run_json.h"

namespace flashomni {
namespace {

using nlohmann::json;

char letter_of(LayerKind kind) {
  switch (kind) {
    case LayerKind::kUpdate:
      return 'u';
    case LayerKind::kSparse:
      return 's';
    case LayerKind::kDegraded:
      return 'r';
    case LayerKind::kAliased:
      return 'a';
    case LayerKind::kSkipped:
      return 'k';
    default:
      return 'd';
  }
}

}  // namespace

const char* layer_kind_text(char letter) {
  switch (letter) {
    case 'd':
      return "dense";
    case 'u':
      return "update";
    case 's':
      return "sparse";
    case 'r':
      return "reused whole";
    case 'a':
      return "shared between guidance streams";
    case 'k':
      return "skipped";
    default:
      return "unknown";
  }
}

RunDetail detail_of(const RunReport& report) {
  RunDetail d;
  d.layers = report.layer_names;
  for (const StepRecord& step : report.steps) {
    d.steps.push_back({step_kind_name(step.kind), step.seconds});
    d.sparsity.emplace_back();
    d.kinds.emplace_back();
    for (const LayerRecord& layer : step.layers) {
      d.sparsity.back().push_back(attention_sparsity(layer));
      d.kinds.back() += letter_of(layer.kind);
    }
  }
  if (!d.layers.empty() && !d.kinds.empty()) {
    d.streams = static_cast<int>(d.kinds.front().size() / d.layers.size());
  }
  const MemoryLedger& l = report.ledger;
  d.memory = {{"symbols", l.symbols},        {"plans", l.plans},
              {"features", l.features},      {"bias planes", l.bias_planes},
              {"module outputs", l.modules}, {"residuals", l.residuals},
              {"scratch", l.scratch},        {"cache at its peak", report.peak_cache_bytes}};
  return d;
}

json to_json(const RunDetail& d) {
  if (d.empty()) return nullptr;
  json steps = json::array(), memory = json::array();
  for (size_t i = 0; i < d.steps.size(); ++i) {
    json shares = json::array();
    // Four decimals are what a picture shows.
    for (const double s : d.sparsity[i]) shares.push_back(std::round(s * 1e4) / 1e4);
    steps.push_back({{"kind", d.steps[i].kind},
                     {"seconds", d.steps[i].seconds},
                     {"layers", d.kinds[i]},
                     {"sparsity", std::move(shares)}});
  }
  for (const auto& [name, bytes] : d.memory) memory.push_back({{"name", name}, {"bytes", bytes}});
  return {{"layers", d.layers},
          {"streams", d.streams},
          {"steps", std::move(steps)},
          {"memory", std::move(memory)}};
}

Result<RunDetail> parse_detail(const json& object, const std::string& source) {
  RunDetail d;
  if (object.is_null()) return d;
  const auto malformed = [&](const std::string& what) {
    return corrupt_file(source + ": " + what);
  };
  if (!object.is_object()) return malformed("is " + std::string(object.type_name()));
  JsonFields f(object, source);
  d.layers = f.texts("layers", {});
  d.streams = static_cast<int>(f.integer("streams", 0, 0, 1024));
  if (!f.status().ok()) return malformed(f.status().message());
  const json steps = object.value("steps", json::array());
  const json memory = object.value("memory", json::array());
  if (!steps.is_array() || !memory.is_array()) return malformed("steps or memory is no list");
  const size_t cells = d.layers.size() * size_t(d.streams);
  for (const json& step : steps) {
    if (!step.is_object()) return malformed("a step is no object");
    JsonFields g(step, source);
    d.steps.push_back({g.text("kind", ""), g.number("seconds", 0, 0)});
    d.kinds.push_back(g.text("layers", ""));
    d.sparsity.push_back(g.numbers("sparsity", {}));
    if (!g.status().ok()) return malformed(g.status().message());
    if (d.kinds.back().size() != cells || d.sparsity.back().size() != cells) {
      return malformed("a step has " + std::to_string(d.sparsity.back().size()) +
                       " layers, wanted " + std::to_string(cells));
    }
  }
  for (const json& one : memory) {
    if (!one.is_object()) return malformed("an entry of memory is no object");
    JsonFields g(one, source);
    d.memory.emplace_back(g.text("name", ""), static_cast<size_t>(g.integer("bytes", 0, 0)));
    if (!g.status().ok()) return malformed(g.status().message());
  }
  return d;
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "pipelines/symbols_trace.h"

#include <cstdio>

#include "io/json.h"
#include "io/messages.h"
#include "io/safetensors.h"

namespace flashomni {
namespace {

using nlohmann::json;

constexpr char kVersionKey[] = "flashomni_trace";
constexpr char kVersion[] = "1";
constexpr int kMaxIndex = 1 << 20;  // of steps, layers and streams

std::string entry_name(const TraceEntry& e) {
  char name[64];
  std::snprintf(name, sizeof(name), "step%05d.layer%04d.stream%d", e.step, e.layer, e.stream);
  return name;
}

}  // namespace

SymbolTrace make_trace(const RunReport& report, const std::vector<SymbolSnapshot>& snapshots) {
  SymbolTrace t;
  t.steps = static_cast<int>(report.steps.size());
  t.layers = report.layer_names;
  const size_t layers = report.layer_names.size();
  for (size_t i = 0; i < snapshots.size(); ++i) {
    const SymbolSnapshot& s = snapshots[i];
    int end = t.steps;  // of the steps that these symbols may have served
    for (size_t k = i + 1; k < snapshots.size() && end == t.steps; ++k) {
      if (snapshots[k].layer == s.layer && snapshots[k].stream == s.stream) {
        end = snapshots[k].step;
      }
    }
    TraceEntry e{s.step, s.layer, s.stream, 0, s.symbols};
    const size_t at = size_t(s.stream) * layers + size_t(s.layer);
    for (int step = s.step + 1; step < end; ++step) {
      e.uses += report.steps[size_t(step)].layers[at].kind == LayerKind::kSparse;
    }
    t.entries.push_back(std::move(e));
  }
  return t;
}

Status save_trace(const SymbolTrace& trace, const std::string& path) {
  json header = {{"steps", trace.steps},       {"head_dim", trace.head_dim},
                 {"layers", trace.layers},     {"command", trace.command},
                 {"strategy", trace.strategy}, {"entries", json::array()}};
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<TensorToWrite> tensors;
  bytes.reserve(trace.entries.size());
  for (const TraceEntry& e : trace.entries) {
    header["entries"].push_back({{"name", entry_name(e)},
                                 {"step", e.step},
                                 {"layer", e.layer},
                                 {"stream", e.stream},
                                 {"uses", e.uses}});
    bytes.push_back(serialize_symbols(e.symbols));
    tensors.push_back(
        {entry_name(e), StoredDType::kU8, {int64_t(bytes.back().size())}, bytes.back()});
  }
  return write_safetensors(path, tensors, {{kVersionKey, kVersion}, {"header", json_text(header)}});
}

bool is_trace(const std::string& path) {
  const Result<SafetensorsFile> file = SafetensorsFile::open(path);
  return file.ok() && file->metadata().contains(kVersionKey);
}

Result<SymbolTrace> load_trace(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::open(path));
  const auto version = file.metadata().find(kVersionKey);
  if (version == file.metadata().end()) {
    return corrupt_file(path + ": not a trace of symbols, its metadata has no " + kVersionKey);
  }
  if (version->second != kVersion) {
    return unsupported(path + ": version of the trace is " + quote(version->second) +
                       ", this program reads " + kVersion);
  }
  const auto text = file.metadata().find("header");
  if (text == file.metadata().end()) return corrupt_file(path + ": its metadata has no header");
  FO_ASSIGN_OR_RETURN(const json header, parse_json(text->second, path + ": header"));
  if (!header.is_object() || !header.contains("entries") || !header["entries"].is_array()) {
    return corrupt_file(path + ": header has no list of entries");
  }
  SymbolTrace t;
  JsonFields f(header, path + ": header");
  t.steps = static_cast<int>(f.integer("steps", 0, 0, kMaxIndex));
  t.head_dim = static_cast<int>(f.integer("head_dim", 0, 0, kMaxIndex));
  t.layers = f.texts("layers", {});
  t.command = f.text("command", "");
  t.strategy = f.text("strategy", "");
  if (!f.status().ok()) return corrupt_file(f.status().message());
  for (const json& one : header["entries"]) {
    if (!one.is_object()) return corrupt_file(path + ": an entry is no object");
    JsonFields g(one, path + ": entry");
    for (const char* key : {"name", "step", "layer", "stream", "uses"}) g.require(key);
    const std::string name = g.text("name", "");
    TraceEntry e;
    e.step = static_cast<int>(g.integer("step", 0, 0, kMaxIndex));
    e.layer = static_cast<int>(g.integer("layer", 0, 0, kMaxIndex));
    e.stream = static_cast<int>(g.integer("stream", 0, 0, kMaxIndex));
    e.uses = static_cast<int>(g.integer("uses", 0, 0, kMaxIndex));
    if (!g.status().ok()) return corrupt_file(g.status().message());
    const TensorEntry* tensor = file.find(name);
    if (!tensor || tensor->dtype != StoredDType::kU8) {
      return corrupt_file(path + ": entry " + quote(name) + " has no U8 tensor");
    }
    FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_tensor(*tensor));
    Result<SparseSymbols> symbols = deserialize_symbols(bytes);
    if (!symbols.ok()) {
      return Status(symbols.status().code(),
                    path + ": entry " + quote(name) + ": " + symbols.status().message());
    }
    e.symbols = std::move(*symbols);
    t.entries.push_back(std::move(e));
  }
  return t;
}

}  // namespace flashomni

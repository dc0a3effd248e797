// SPDX-License-Identifier: Apache-2.0
//
// The symbols of a whole run in one file: what a strategy decided at every Update, layer and
// guidance stream, and how many steps ran with it.
//
// A safetensors file: one U8 tensor for each entry, holding the bytes of serialize_symbols, and in
// the metadata "flashomni_trace" (the version) and "header" (JSON).
#pragma once

#include <string>
#include <vector>

#include "flashomni/engine.h"

namespace flashomni {

struct TraceEntry {
  int step = 0;  // of the Update that built the symbols
  int layer = 0;
  int stream = 0;
  int uses = 0;  // steps in which the attention of this layer and stream ran with them
  SparseSymbols symbols;
};

struct SymbolTrace {
  int steps = 0;
  int head_dim = 0;
  std::vector<std::string> layers;  // names
  std::string command;              // that made it
  std::string strategy;             // JSON, as `generate --config` takes it
  std::vector<TraceEntry> entries;  // in the order in which they were built
};

// The trace of a finished run whose engine kept its symbols.
SymbolTrace make_trace(const RunReport& report, const std::vector<SymbolSnapshot>& snapshots);

Status save_trace(const SymbolTrace& trace, const std::string& path);
// Refuses what save_trace does not write, with the path and the entry.
Result<SymbolTrace> load_trace(const std::string& path);
// Whether the file claims to be a trace; false also for what cannot be read.
bool is_trace(const std::string& path);

}  // namespace flashomni

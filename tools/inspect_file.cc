// SPDX-License-Identifier: Apache-2.0
#include "tools/inspect_file.h"

#include <cstdio>

#include "flashomni/version.h"
#include "io/json.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

nlohmann::json counts_json(const SymbolCounts& c) {
  return {{"rows", c.rows},
          {"active_rows", c.active_rows},
          {"pairs", c.pairs},
          {"active_pairs", c.active_pairs},
          {"attention_sparsity", 1 - c.pair_density()},
          {"cached_sparsity", 1 - c.row_density()}};
}

std::vector<std::string> counts_row(const std::string& name, const SymbolCounts& c) {
  return {name, std::to_string(c.active_rows) + "/" + std::to_string(c.rows),
          std::to_string(c.active_pairs) + "/" + std::to_string(c.pairs),
          percent(1 - c.row_density()), percent(1 - c.pair_density())};
}

}  // namespace

Status inspect_symbols_file(const std::string& path, int head, const OutputFlags& output) {
  FO_RETURN_IF_ERROR(check_optional_output(output.json));
  FO_ASSIGN_OR_RETURN(const SparseSymbols symbols, load_symbols(path));
  return show_symbols(path, symbols, head, output);
}

Status show_symbols(const std::string& path, const SparseSymbols& symbols, int head,
                    const OutputFlags& output) {
  const SymbolGeometry& g = symbols.geometry();
  if (head >= g.heads) {
    return invalid_argument("head is " + std::to_string(head) + ", " + path + " has heads 0 to " +
                            std::to_string(g.heads - 1));
  }
  nlohmann::json doc = {{"version", version()},
                        {"file", path},
                        {"geometry",
                         {{"batch", g.batch},
                          {"heads", g.heads},
                          {"q_tokens", g.q_tokens},
                          {"kv_tokens", g.kv_tokens},
                          {"block_q", g.block_q},
                          {"block_kv", g.block_kv},
                          {"ragged_blocks", g.ragged_blocks},
                          {"num_q_blocks", g.num_q_blocks()},
                          {"num_kv_blocks", g.num_kv_blocks()}}},
                        {"counts", counts_json(symbols.counts())},
                        {"heads", nlohmann::json::array()}};
  if (g.ragged()) doc["geometry"]["starts"] = symbols.starts();
  Table table({"batch head", "computed rows", "computed pairs", "cached", "skipped"});
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      const SymbolCounts counts = symbols.counts(b, h);
      table.add(counts_row(std::to_string(b) + " " + std::to_string(h), counts));
      doc["heads"].push_back(counts_json(counts));
      doc["heads"].back()["batch"] = b;
      doc["heads"].back()["head"] = h;
    }
  }
  table.add(counts_row("all", symbols.counts()));
  if (!output.json.empty()) FO_RETURN_IF_ERROR(write_json_file(output.json, doc));
  if (output.quiet) return ok_status();
  std::printf("%s: batch %d, %d heads, %d x %d tokens in %sblocks of %s%d x %d: %d x %d symbols\n",
              path.c_str(), g.batch, g.heads, g.q_tokens, g.kv_tokens, g.ragged() ? "ragged " : "",
              g.ragged() ? "at most " : "", g.block_q, g.block_kv, g.num_q_blocks(),
              g.num_kv_blocks());
  std::printf("%s\nhead %d ('#' computed, '.' skipped, '-' cached):\n%s", table.text().c_str(),
              head, symbols_ascii(symbols, 0, head).c_str());
  return ok_status();
}

}  // namespace flashomni::tools

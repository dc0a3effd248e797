// SPDX-License-Identifier: Apache-2.0
#include "reports/html_sections.h"

#include <algorithm>
#include <map>
#include <set>

#include "flashomni/version.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "reports/html.h"
#include "reports/html_charts.h"
#include "reports/number_text.h"

namespace flashomni::html {
namespace {

// One head's map is some hundred bytes in the page; more than this many and a phone suffers.
constexpr size_t kMaxMaps = 3000;

Result<std::string> maps_of(const SymbolSnapshot& s, const std::string& layer, int streams) {
  const SymbolGeometry& g = s.symbols.geometry();
  std::string out = "<h3>Layer " + std::to_string(s.layer) + " " + escape(layer) +
                    (streams > 1 ? ", stream " + std::to_string(s.stream) : "") + "</h3>\n" +
                    "<div class=\"maps\">\n";
  for (int h = 0; h < g.heads; ++h) {
    const SymbolCounts c = s.symbols.counts(0, h);
    const std::string skipped = percent(1 - c.pair_density());
    SymbolsPicture p = symbols_picture(s.symbols, 0, h, 1);
    FO_ASSIGN_OR_RETURN(const std::string img,
                        image(Image{p.width, p.height, std::move(p.rgb)},
                              "head " + std::to_string(h) + ": " + skipped + " left out, " +
                                  percent(1 - c.row_density()) + " of the rows cached"));
    out += "<figure>" + img + "<figcaption>head " + std::to_string(h) + "<br>" + escape(skipped) +
           "</figcaption></figure>\n";
  }
  return out + "</div>\n";
}

std::string layer_name(const SymbolSnapshot& s, const std::vector<std::string>& layers) {
  return size_t(s.layer) < layers.size() ? layers[size_t(s.layer)] : std::string();
}

constexpr char kNoSymbols[] = "<p>The run built no symbols.</p>\n";
constexpr char kMapLegend[] =
    "<div class=\"legend\"><span><i style=\"background:#1f4e79\"></i>computed</span>"
    "<span><i style=\"background:#f0f0f0\"></i>skipped</span>"
    "<span><i style=\"background:#f0a03c\"></i>row from the cache</span></div>\n"
    "<p class=\"quiet\">A row is a block of queries, a column a block of keys and values. Under "
    "each head: the share of its attention that is left out.</p>\n";

}  // namespace

Result<std::string> pictures(const std::vector<CaptionedPicture>& all,
                             const std::string& css_class) {
  std::string out =
      "<div class=\"pictures" + (css_class.empty() ? "" : " " + escape(css_class)) + "\">\n";
  for (const CaptionedPicture& p : all) {
    FO_ASSIGN_OR_RETURN(const std::string img, image(p.image, p.caption));
    out += "<figure>" + img + "<figcaption>" + escape(p.caption) + "</figcaption></figure>\n";
  }
  return out + "</div>\n";
}

std::string run_charts(const RunDetail& d) {
  if (d.empty()) return "";
  return "<h3>Seconds per step</h3>\n" + step_bars(d) +
         "<h3>Attention left out, by step and layer</h3>\n" + sparsity_heat_map(d);
}

std::string memory_table(const RunDetail& d) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, bytes] : d.memory) rows.push_back({name, mebibytes(bytes)});
  return table({"what", "MiB"}, rows);
}

Result<std::string> symbol_maps(const std::vector<SymbolSnapshot>& snapshots,
                                const std::vector<std::string>& layers) {
  if (snapshots.empty()) return std::string(kNoSymbols);
  std::map<std::pair<int, int>, const SymbolSnapshot*> last;  // (layer, stream)
  std::set<int> steps;
  int streams = 1;
  for (const SymbolSnapshot& s : snapshots) {
    last[{s.layer, s.stream}] = &s;
    streams = std::max(streams, s.stream + 1);
    steps.insert(s.step);
  }
  const auto name = [&](const SymbolSnapshot& s) { return layer_name(s, layers); };
  std::string out = kMapLegend;
  std::string body;
  size_t maps = 0, left_out = 0;
  for (const auto& [where, s] : last) {
    if (maps >= kMaxMaps) {
      ++left_out;
      continue;
    }
    FO_ASSIGN_OR_RETURN(const std::string one, maps_of(*s, name(*s), streams));
    body += one;
    maps += size_t(s->symbols.geometry().heads);
  }
  out += details("Last Update of every layer", body, true);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    std::string earlier;
    for (const SymbolSnapshot& s : snapshots) {
      if (s.step != *step || last[{s.layer, s.stream}] == &s) continue;
      if (maps >= kMaxMaps) {
        ++left_out;
        continue;
      }
      FO_ASSIGN_OR_RETURN(const std::string one, maps_of(s, name(s), streams));
      earlier += one;
      maps += size_t(s.symbols.geometry().heads);
    }
    if (!earlier.empty()) out += details("Update at step " + std::to_string(*step), earlier);
  }
  if (left_out > 0) {
    out += "<p class=\"quiet\">" + std::to_string(left_out) +
           " maps of layers at earlier Updates are left out here; inspect shows them.</p>\n";
  }
  return out;
}

Result<std::string> last_symbol_maps(const std::vector<SymbolSnapshot>& snapshots,
                                     const std::vector<std::string>& layers) {
  std::map<int, const SymbolSnapshot*> last;  // by layer
  for (const SymbolSnapshot& s : snapshots) {
    if (s.stream == 0) last[s.layer] = &s;
  }
  if (last.empty()) return std::string(kNoSymbols);
  std::string out = kMapLegend;
  for (const auto& [layer, s] : last) {
    FO_ASSIGN_OR_RETURN(const std::string one, maps_of(*s, layer_name(*s, layers), 1));
    out += one;
  }
  return out;
}

std::string fallbacks(const std::vector<Fallback>& all) {
  if (all.empty()) return "<p>None: everything that was asked to run sparse did.</p>\n";
  std::string out = "<ul class=\"warn\">\n";
  for (const Fallback& f : all) {
    out += "<li>" + escape(f.where + ": " + f.reason) +
           (f.count > 1 ? " (" + std::to_string(f.count) + " times)" : "") + "</li>\n";
  }
  return out + "</ul>\n";
}

std::string origin(const std::string& command, const Origin& from) {
  return "<pre>" + escape(command) + "</pre>\n" +
         facts({{"version", version()},
                {"commit", from.commit},
                {"device", from.backend.device},
                {"kernels", from.backend.isa},
                {"threads", std::to_string(from.backend.threads)},
                {"model", from.model}});
}

std::string config(const StrategyChoice& choice) {
  return "<pre>" + escape(json_text(to_json(choice))) + "</pre>\n";
}

}  // namespace flashomni::html

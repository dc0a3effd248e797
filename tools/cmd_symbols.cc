// SPDX-License-Identifier: Apache-2.0
//
// flashomni symbols: show files of symbols, our own and those of other kernels, and convert between
// them.
#include <cstdio>
#include <filesystem>

#include "io/json.h"
#include "io/messages.h"
#include "pipelines/symbols_exchange.h"
#include "pipelines/symbols_trace.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/inspect_file.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

struct Flags {
  std::string in, out, to;
  std::optional<int> head, step, layer, stream;
  std::optional<int> block_q, block_kv, q_tokens, kv_tokens, batch, heads;
  OutputFlags output;

  void add_input_to(CLI::App& app) {
    app.add_option("file", in,
                   "symbols (.fosy), a trace, or a file of other kernels (safetensors, .npz)")
        ->required()
        ->type_name("FILE");
    add_number(app, "--step", step, 0, "of a trace: the Update step (default: its last)");
    add_number(app, "--layer", layer, 0, "of a trace: the layer (default 0)");
    add_number(app, "--stream", stream, 0, "of a trace: the guidance stream (default 0)");
    add_number(app, "--block-q", block_q, 1,
               "query tokens of a block, where the file does not say");
    add_number(app, "--block-kv", block_kv, 1, "kv tokens of a block, likewise");
    add_number(app, "--q-tokens", q_tokens, 1, "query tokens (default: whole blocks)");
    add_number(app, "--kv-tokens", kv_tokens, 1, "kv tokens (default: whole blocks)");
    add_number(app, "--batch", batch, 1, "batch items, of a file with one pattern for all");
    add_number(app, "--heads", heads, 1, "heads, of a file with one pattern for all");
  }
  SymbolsHints hints() const {
    return {block_q.value_or(0),   block_kv.value_or(0), q_tokens.value_or(0),
            kv_tokens.value_or(0), batch.value_or(0),    heads.value_or(0)};
  }
  bool picks_entry() const { return step || layer || stream; }
};

Result<const TraceEntry*> pick(const SymbolTrace& trace, const Flags& flags) {
  const TraceEntry* found = nullptr;
  for (const TraceEntry& e : trace.entries) {
    if (e.layer != flags.layer.value_or(0) || e.stream != flags.stream.value_or(0)) continue;
    if (!flags.step || e.step == *flags.step) found = &e;
  }
  if (found) return found;
  return invalid_argument(flags.in + " has no symbols of layer " +
                          std::to_string(flags.layer.value_or(0)) + ", stream " +
                          std::to_string(flags.stream.value_or(0)) +
                          (flags.step ? ", step " + std::to_string(*flags.step) : "") +
                          "; 'flashomni symbols show " + flags.in + "' lists what there is");
}

Result<ImportedSymbols> read(const Flags& flags) {
  if (is_trace(flags.in)) {
    FO_ASSIGN_OR_RETURN(const SymbolTrace trace, load_trace(flags.in));
    FO_ASSIGN_OR_RETURN(const TraceEntry* entry, pick(trace, flags));
    return ImportedSymbols{
        entry->symbols,
        SymbolsFormat::kFosy,
        {"step " + std::to_string(entry->step) + ", layer " + std::to_string(entry->layer) +
         ", stream " + std::to_string(entry->stream) + ", used in " + std::to_string(entry->uses) +
         " steps"}};
  }
  if (flags.picks_entry()) {
    return invalid_argument("--step, --layer and --stream are for traces, " + flags.in +
                            " is none");
  }
  return import_symbols(flags.in, flags.hints());
}

// A line for every Update, over its layers and streams.
Status show_trace(const Flags& flags) {
  FO_ASSIGN_OR_RETURN(const SymbolTrace trace, load_trace(flags.in));
  Table table({"layer stream", "Update", "used in steps", "cached", "left out"}, {0});
  nlohmann::json rows = nlohmann::json::array();
  double pairs = 0, left_out = 0;
  for (const TraceEntry& e : trace.entries) {
    const SymbolCounts c = e.symbols.counts();
    pairs += double(e.uses) * double(c.pairs);
    left_out += double(e.uses) * double(c.pairs - c.active_pairs);
    table.add({std::to_string(e.layer) + " " + std::to_string(e.stream), std::to_string(e.step),
               std::to_string(e.uses), percent(1 - c.row_density()),
               percent(1 - c.pair_density())});
    rows.push_back({{"step", e.step},
                    {"layer", e.layer},
                    {"stream", e.stream},
                    {"uses", e.uses},
                    {"cached_sparsity", 1 - c.row_density()},
                    {"attention_sparsity", 1 - c.pair_density()}});
  }
  const double share = pairs > 0 ? left_out / pairs : 0;
  if (!flags.output.json.empty()) {
    FO_RETURN_IF_ERROR(write_json_file(flags.output.json, {{"file", flags.in},
                                                           {"steps", trace.steps},
                                                           {"head_dim", trace.head_dim},
                                                           {"layers", trace.layers},
                                                           {"command", trace.command},
                                                           {"attention_sparsity", share},
                                                           {"entries", rows}}));
  }
  if (flags.output.quiet) return ok_status();
  std::printf("%s: %zu symbols of %d steps and %zu layers, %s left out where they were used\n",
              flags.in.c_str(), trace.entries.size(), trace.steps, trace.layers.size(),
              percent(share).c_str());
  std::printf("%s%s\n", printable(trace.command, 400).c_str(), trace.command.empty() ? "" : "\n");
  std::printf("%s", table.text().c_str());
  return ok_status();
}

Status show(const Flags& flags) {
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  if (!flags.picks_entry() && is_trace(flags.in)) return show_trace(flags);
  FO_ASSIGN_OR_RETURN(const ImportedSymbols found, read(flags));
  FO_RETURN_IF_ERROR(show_symbols(flags.in, found.symbols, flags.head.value_or(0), flags.output));
  if (flags.output.quiet) return ok_status();
  for (const std::string& note : found.notes) std::printf("note: %s\n", note.c_str());
  return ok_status();
}

Status convert(const Flags& flags) {
  const bool fosy = std::filesystem::path(flags.out).extension() == ".fosy";
  if (flags.to.empty() && !fosy) {
    return invalid_argument("--to is missing, " + flags.out + " could be any of the formats");
  }
  FO_ASSIGN_OR_RETURN(const SymbolsFormat format,
                      symbols_format(flags.to.empty() ? "fosy" : flags.to));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_ASSIGN_OR_RETURN(const ImportedSymbols found, read(flags));
  FO_RETURN_IF_ERROR(export_symbols(found.symbols, format, flags.out));
  if (!flags.output.json.empty()) {
    FO_RETURN_IF_ERROR(
        write_json_file(flags.output.json, {{"from", symbols_format_name(found.format)},
                                            {"to", symbols_format_name(format)},
                                            {"file", flags.out},
                                            {"notes", found.notes}}));
  }
  if (flags.output.quiet) return ok_status();
  std::printf("%s: %s from %s\n", flags.out.c_str(), symbols_format_name(format),
              symbols_format_name(found.format));
  for (const std::string& note : found.notes) std::printf("note: %s\n", note.c_str());
  return ok_status();
}

}  // namespace

void add_symbols(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("symbols", "show and convert files of sparse symbols");
  sub->require_subcommand(1);
  const auto flags = std::make_shared<Flags>();

  CLI::App* show_sub = sub->add_subcommand("show", "geometry, counts and the map of one head");
  flags->add_input_to(*show_sub);
  add_number(*show_sub, "--head", flags->head, 0, "head of the map that is printed");
  flags->output.add_to(*show_sub);
  show_sub->callback([flags, &line] { line.run = [flags] { return show(*flags); }; });

  CLI::App* convert_sub = sub->add_subcommand(
      "convert", "from and to dense masks, BSR, FlexAttention and FlashAttention 4 block lists");
  flags->add_input_to(*convert_sub);
  convert_sub->add_option("out", flags->out, "file to write (safetensors, or .npz by its name)")
      ->required()
      ->type_name("OUT");
  convert_sub
      ->add_option("--to", flags->to, "fosy, mask, bsr, flex or fa4 (default for .fosy: fosy)")
      ->type_name("FORMAT");
  flags->output.add_to(*convert_sub);
  convert_sub->callback([flags, &line] { line.run = [flags] { return convert(*flags); }; });
}

}  // namespace flashomni::tools

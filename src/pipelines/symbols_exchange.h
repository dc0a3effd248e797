// SPDX-License-Identifier: Apache-2.0
//
// Symbols in the forms of other kernels, as safetensors or .npz files: read and written. The
// tensors have the names and meanings that those kernels' own functions give them;
// docs/symbols_format.md lists them with examples.
#pragma once

#include <string>
#include <vector>

#include "flashomni/symbols.h"

namespace flashomni {

enum class SymbolsFormat {
  kFosy,  // our own file (save_symbols)
  kMask,  // dense block masks, as SpargeAttn takes them
  kBsr,   // block-sparse rows, as FlashInfer takes them
  kFlex,  // FlexAttention's BlockMask
  kFa4,   // FlashAttention 4's block-sparse tensors
};
const char* symbols_format_name(SymbolsFormat format);  // "fosy", "mask", "bsr", "flex", "fa4"
std::vector<std::string> symbols_format_names();
Result<SymbolsFormat> symbols_format(const std::string& name);

// What a foreign file need not say. 0: from the file's metadata, else as derived below.
struct SymbolsHints {
  int block_q = 0;    // no default: a file without it is refused
  int block_kv = 0;   // likewise
  int q_tokens = 0;   // default: whole blocks
  int kv_tokens = 0;  // default: whole blocks
  int batch = 0;      // for files with one pattern for all; default 1
  int heads = 0;      // likewise
};

struct ImportedSymbols {
  SparseSymbols symbols;
  SymbolsFormat format = SymbolsFormat::kFosy;
  std::vector<std::string> notes;  // what the file holds that symbols cannot say, and the reverse
};

// Reads a file of any of the formats, told apart by magic and tensor names. A row without a block
// becomes a cached one, except where the file says otherwise. Whatever is malformed is refused with
// the path, what was seen and what was wanted.
Result<ImportedSymbols> import_symbols(const std::string& path, const SymbolsHints& hints = {});

// Writes one, as .npz where the name ends so. Whole or not at all.
Status export_symbols(const SparseSymbols& symbols, SymbolsFormat format, const std::string& path);

}  // namespace flashomni

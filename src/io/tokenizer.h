// SPDX-License-Identifier: Apache-2.0
//
// Text to token ids with a SentencePiece model (the tokenizer of T5-style text encoders).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

inline constexpr uint64_t kMaxTokenizerFileBytes = uint64_t{64} << 20;

// A loaded model; move-only. Encoding is const and may run on several threads at once.
class Tokenizer {
 public:
  // Reads a spiece.model file. kCorruptFile for anything that is not one or that would make the
  // library read outside its tables.
  static Result<Tokenizer> load(const std::string& path);
  // The same from memory; `source` names the bytes in messages.
  static Result<Tokenizer> parse(std::span<const uint8_t> bytes, const std::string& source);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of `text` (UTF-8; bytes that are not become U+FFFD), without start, end or padding tokens.
  // An empty text has no tokens.
  Result<std::vector<int32_t>> encode(std::string_view text) const;
  // The same tokens as text, U+2581 for a space.
  Result<std::vector<std::string>> encode_pieces(std::string_view text) const;

  int vocabulary_size() const;
  // The special tokens; -1 if the model has none.
  int32_t unknown_id() const;
  int32_t end_id() const;
  int32_t pad_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flashomni

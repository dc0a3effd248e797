// SPDX-License-Identifier: Apache-2.0
//
// A SentencePiece model and a text for it. The input is one byte of text length, the text, and the
// model.
#include <algorithm>
#include <string>

#include "io/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace flashomni;
  if (size < 1) return 0;
  const size_t length = std::min<size_t>(bytes[0], size - 1);
  const std::string text(reinterpret_cast<const char*>(bytes) + 1, length);
  const auto tokenizer = Tokenizer::parse({bytes + 1 + length, size - 1 - length}, "fuzz");
  if (!tokenizer.ok()) {
    FUZZ_CHECK(!tokenizer.status().message().empty());
    return 0;
  }
  const auto ids = tokenizer->encode(text);
  if (!ids.ok()) return 0;
  for (const int32_t id : *ids) FUZZ_CHECK(id >= 0 && id < tokenizer->vocabulary_size());
  return 0;
}

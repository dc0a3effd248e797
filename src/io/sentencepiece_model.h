// SPDX-License-Identifier: Apache-2.0
//
// Checks that the SentencePiece library does not make itself before it trusts a model file.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "flashomni/status.h"

namespace flashomni {

// The model in `bytes` (a serialized sentencepiece.ModelProto) with only what encoding needs:
// pieces, trainer and normalizer settings. kCorruptFile where
//   - the protocol buffer is malformed;
//   - a piece is empty, holds a NUL, is longer than 1 KiB (the library recurses once a byte) or has
//     a score that is not finite;
//   - the normalizer's character map is a double-array trie that leads outside itself or outside
//   its
//     replacement texts, has a cycle, or gives more matches than the library has room for.
// `source` names the bytes in messages.
Result<std::string> checked_sentencepiece_model(std::span<const uint8_t> bytes,
                                                const std::string& source);

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
#include "io/tokenizer.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <utility>

#include "io/input_file.h"
#include "io/sentencepiece_model.h"

namespace flashomni {

struct Tokenizer::Impl {
  std::string path;
  sentencepiece::SentencePieceProcessor processor;

  // Tokens of `text` as ids or pieces, whichever vector `tokens` is.
  template <class Token>
  Result<std::vector<Token>> encode(std::string_view text) const {
    std::vector<Token> tokens;
    try {
      const auto status = processor.Encode(text, &tokens);
      if (!status.ok()) return internal_error(path + ": SentencePiece: " + status.ToString());
    } catch (const std::exception& e) {
      return internal_error(path + ": SentencePiece: " + e.what());
    }
    return tokens;
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(path, kMaxTokenizerFileBytes));
  return parse(bytes, path);
}

Result<Tokenizer> Tokenizer::parse(std::span<const uint8_t> bytes, const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::string model, checked_sentencepiece_model(bytes, path));
  try {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    const auto status = impl->processor.LoadFromSerializedProto(model);
    if (!status.ok()) {
      return corrupt_file(path + " is not a usable SentencePiece model: " + status.ToString());
    }
    return Tokenizer(std::move(impl));
  } catch (const std::exception& e) {
    return corrupt_file(path + " is not a usable SentencePiece model: " + e.what());
  }
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text) const {
  return impl_->encode<int>(text);
}

Result<std::vector<std::string>> Tokenizer::encode_pieces(std::string_view text) const {
  return impl_->encode<std::string>(text);
}

int Tokenizer::vocabulary_size() const {
  return impl_->processor.GetPieceSize();
}
int32_t Tokenizer::unknown_id() const {
  return impl_->processor.unk_id();
}
int32_t Tokenizer::end_id() const {
  return impl_->processor.eos_id();
}
int32_t Tokenizer::pad_id() const {
  return impl_->processor.pad_id();
}

}  // namespace flashomni

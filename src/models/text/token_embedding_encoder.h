// SPDX-License-Identifier: Apache-2.0
//
// The bundled model's text encoder: a SentencePiece tokenizer and two embedding tables, in the
// place of T5 and CLIP.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer.h"
#include "models/tensor.h"

namespace flashomni {

struct EncodedPrompt {
  std::vector<int> ids;                      // [max_length], closed with </s>, padded
  std::vector<float> encoder_hidden_states;  // [max_length, hidden]
  std::vector<float> pooled;                 // [hidden]
  int tokens = 0;                            // ids before the padding, </s> included
};

class TokenEmbeddingEncoder {
 public:
  // `folder` is the checkpoint root with text_encoder/ and tokenizer/.
  static Result<std::unique_ptr<TokenEmbeddingEncoder>> load(Backend& backend,
                                                             const std::string& folder);

  int max_length() const { return max_length_; }
  int hidden_size() const { return hidden_; }
  size_t bytes() const {
    return (token_embedding_.size() + position_embedding_.size()) * sizeof(float);
  }
  // Refuses prompts of more than max_length() - 1 pieces, with both numbers.
  Result<EncodedPrompt> encode(const std::string& prompt) const;

 private:
  explicit TokenEmbeddingEncoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  Tokenizer tokenizer_;
  int vocabulary_ = 0;
  int hidden_ = 0;
  int max_length_ = 0;
  int pad_id_ = 0;
  int eos_id_ = 1;
  std::vector<float> token_embedding_;     // [vocabulary, hidden]
  std::vector<float> position_embedding_;  // [max_length, hidden]
};

}  // namespace flashomni

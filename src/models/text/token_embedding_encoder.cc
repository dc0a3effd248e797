// SPDX-License-Identifier: Apache-2.0
#include "models/text/token_embedding_encoder.h"

#include "io/json.h"
#include "models/weights.h"

namespace flashomni {

Result<std::unique_ptr<TokenEmbeddingEncoder>> TokenEmbeddingEncoder::load(
    Backend& backend, const std::string& folder) {
  const std::string path = folder + "/text_encoder/config.json";
  FO_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  if (!json.is_object()) return corrupt_file(path + ": not a JSON object");
  JsonFields f(json, path);
  const std::string class_name = f.text("_class_name", "");
  if (class_name != "TokenEmbeddingTextEncoder") {
    return unsupported(path + ": text encoder class is '" + class_name +
                       "', wanted TokenEmbeddingTextEncoder");
  }
  const auto vocabulary = static_cast<int>(f.integer("vocab_size", 0, 3, 1 << 24));
  const auto hidden = static_cast<int>(f.integer("hidden_size", 0, 1, 1 << 16));
  const auto max_length = static_cast<int>(f.integer("max_length", 0, 2, 1 << 16));
  const auto pad = static_cast<int>(f.integer("pad_token_id", 0, 0, 1 << 24));
  const auto eos = static_cast<int>(f.integer("eos_token_id", 1, 0, 1 << 24));
  for (const char* name : {"vocab_size", "hidden_size", "max_length"}) f.require(name);
  FO_RETURN_IF_ERROR(f.status());
  if (pad >= vocabulary || eos >= vocabulary) {
    return corrupt_file(path + ": pad_token_id " + std::to_string(pad) + " or eos_token_id " +
                        std::to_string(eos) + " is not below vocab_size " +
                        std::to_string(vocabulary));
  }

  FO_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(folder + "/tokenizer/spiece.model"));
  FO_ASSIGN_OR_RETURN(WeightStore store,
                      WeightStore::open(folder + "/text_encoder/model.safetensors"));
  WeightLoader loader(backend, store);
  std::unique_ptr<TokenEmbeddingEncoder> e(new TokenEmbeddingEncoder(std::move(tokenizer)));
  e->vocabulary_ = vocabulary;
  e->hidden_ = hidden;
  e->max_length_ = max_length;
  e->pad_id_ = pad;
  e->eos_id_ = eos;
  FO_ASSIGN_OR_RETURN(e->token_embedding_,
                      loader.host("token_embedding.weight", {vocabulary, hidden}));
  FO_ASSIGN_OR_RETURN(e->position_embedding_,
                      loader.host("position_embedding.weight", {max_length, hidden}));
  return e;
}

Result<EncodedPrompt> TokenEmbeddingEncoder::encode(const std::string& prompt) const {
  FO_ASSIGN_OR_RETURN(std::vector<int> ids, tokenizer_.encode(prompt));
  if (static_cast<int>(ids.size()) > max_length_ - 1) {
    return invalid_argument("the prompt has " + std::to_string(ids.size()) +
                            " tokens, the model takes at most " + std::to_string(max_length_ - 1));
  }
  ids.push_back(eos_id_);
  EncodedPrompt out;
  out.tokens = static_cast<int>(ids.size());
  ids.resize(size_t(max_length_), pad_id_);
  const size_t hidden = size_t(hidden_);
  out.encoder_hidden_states.resize(size_t(max_length_) * hidden);
  out.pooled.assign(hidden, 0.f);
  int counted = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int id = ids[i];
    if (id < 0 || id >= vocabulary_) {
      return corrupt_file("the tokenizer gave id " + std::to_string(id) +
                          ", the text encoder knows 0 to " + std::to_string(vocabulary_ - 1));
    }
    const float* token = &token_embedding_[size_t(id) * hidden];
    const float* position = &position_embedding_[i * hidden];
    for (size_t c = 0; c < hidden; ++c) {
      out.encoder_hidden_states[i * hidden + c] = token[c] + position[c];
    }
    if (id == pad_id_) continue;
    ++counted;
    for (size_t c = 0; c < hidden; ++c) out.pooled[c] += token[c];
  }
  for (float& p : out.pooled) p /= static_cast<float>(counted);
  out.ids = std::move(ids);
  return out;
}

}  // namespace flashomni

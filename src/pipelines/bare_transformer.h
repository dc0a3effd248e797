// SPDX-License-Identifier: Apache-2.0
//
// A transformer without text encoder and decoder: it denoises random latents under random text, at
// any size and, if need be, with random weights. For speed and memory only; what comes out means
// nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/denoise.h"

namespace flashomni {

struct BareTransformerOptions {
  // A folder with config.json (and weights, unless they are random), or one that has such a folder
  // under the name "transformer"; or, with random weights, one of bare_transformer_names().
  std::string model;
  bool random_weights = false;
  uint64_t seed = 0;    // of weights, latents and text
  int width = 1024;     // pixels
  int height = 1024;    // pixels
  int frames = 1;       // of a video
  int text_tokens = 0;  // 0: as many as the model is used with
  int layers = 0;       // only so many blocks of each kind; 0: all
  // Of Wan, which takes two guidance streams a step unless it is 1; below 0: the model's. The
  // others have it embedded.
  double guidance = -1;
};

struct BareTransformerResult {
  RunReport report;
  double seconds = 0;           // of all steps
  size_t activation_bytes = 0;  // and workspace
  std::vector<float> latents;   // [tokens, channels] after the last step
};

class BareTransformer {
 public:
  virtual ~BareTransformer() = default;
  virtual const std::string& name() const = 0;    // "flux.1-dev"
  virtual const std::string& family() const = 0;  // of presets: "flux"
  virtual int64_t parameters() const = 0;
  virtual size_t weight_bytes() const = 0;
  virtual SequenceInfo sequence() const = 0;
  virtual int layers() const = 0;
  // Text tokens; in the sequence or, of Wan, beside it.
  virtual int text() const {
    const SequenceInfo s = sequence();
    return s.text_end - s.text_begin;
  }
  virtual int streams() const { return 1; }  // of guidance, each an evaluation a step

  // `strategy` may be null (dense).
  virtual Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                            const EngineOptions& options,
                                            const ProgressCallback& progress) = 0;
};

// Full-size configurations that are known without a checkpoint.
std::vector<std::string> bare_transformer_names();

// `backend` must outlive the result.
Result<std::unique_ptr<BareTransformer>> load_bare_transformer(
    Backend& backend, const BareTransformerOptions& options);

}  // namespace flashomni

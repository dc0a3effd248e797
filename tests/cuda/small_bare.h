// SPDX-License-Identifier: Apache-2.0
//
// Transformers of full width, but one layer of each kind, a short sequence and a text that fills no
// tile.
#pragma once

#include <string>

#include "flashomni/strategies.h"
#include "pipelines/bare_transformer.h"

namespace flashomni::testkit {

inline BareTransformerOptions small_bare_options(const std::string& name) {
  BareTransformerOptions o;
  o.model = name;
  o.random_weights = true;
  o.layers = 1;
  o.width = o.height = 256;
  o.frames = name.starts_with("flux") ? 1 : 5;
  o.text_tokens = 77;
  return o;
}

// An Update every second step, with skipped pairs and cached rows.
inline RandomOptions small_bare_symbols() {
  RandomOptions options;
  options.cached = options.skipped = .3;
  options.schedule = {2, 2, 0, true};
  return options;
}

}  // namespace flashomni::testkit

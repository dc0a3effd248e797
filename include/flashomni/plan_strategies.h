// SPDX-License-Identifier: Apache-2.0
//
// Strategies that follow a table made before the run: what each head of each layer does in each
// step. A plan is text, rules parted by ';', later rules on top of earlier ones:
//
//   steps 0-9, layers 2-5, heads 0-3: window 256; layers 6: cached; steps 5: alias
//
// Selectors (each "all", a number, a range or "+"-joined ones) may be left out for "all". Actions:
//   full      attention over all blocks; the layer's caches are refreshed
//   window W  the kv blocks within W tokens, text always
//   cached    the head's output of the last refresh, forecast
//   alias     of guidance streams after the first: the first one's output (a layer's affair)
#pragma once

#include <memory>
#include <string>

#include "flashomni/strategy.h"

namespace flashomni {

// Any plan. A config file may also give it as a JSON array of rules:
//   [{"steps": "0-9", "layers": "2-5", "heads": "0-3", "action": "window 256"}, ...]
struct PlanOptions {
  std::string plan;      // rules over a run that is otherwise `full`
  int plan_steps = 0;    // run length that the steps are meant for, scaled to the real one; 0 = not
  int order = 0;         // Taylor order of cached heads
  bool residual = true;  // windows add what they lacked of the last full attention
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
};

// DiTFastAttn (arXiv 2406.08552): whole layers share their output (AST), attend in a window with
// the residual of the last full step (WA-RS), or share between guidance streams (ASC). Without a
// plan of its own it repeats full, window, cached.
struct DitFastAttnOptions {
  std::string plan;    // as in PlanOptions, replacing the repeated pattern
  int window = 256;    // tokens on either side
  int warmup = 8;      // leading full steps
  int interval = 3;    // steps from one full step to the next
  int shared = 1;      // of them, trailing ones that share the output
  bool alias = false;  // full steps of the other guidance streams take the first one's output
  bool residual = true;
  int schedule_steps = 50;  // run length that warmup is meant for; 0 = take it as it is
  int block_q = 64;
  int block_kv = 64;
  bool protect_text = true;
};

// DiTFastAttnV2 (arXiv 2503.22796): every head of a layer has its own: an arrow-shaped window (text
// rows and columns whole) or its cached output. Without a plan the heads of every layer are dealt
// in turn.
struct DitFastAttnV2Options {
  std::string plan;           // as in PlanOptions, replacing the dealt heads
  double cached_heads = 0.3;  // share of the heads whose output is cached
  double window_heads = 0.4;  // share of the heads that attend in a window
  int window = 256;           // tokens on either side
  int warmup = 8;             // leading full steps
  int interval = 4;           // steps from one full step to the next
  int order = 0;              // Taylor order of cached heads
  int schedule_steps = 50;    // run length that warmup is meant for; 0 = take it as it is
  int block_q = 64;
  int block_kv = 64;
};

// Head caching: in the steps between full ones a share of the heads of every layer is taken from
// the cache, by turns.
struct HeadCacheOptions {
  double cached_heads = 0.5;  // share of the heads
  bool rotate = true;         // other heads in each interval
  int warmup = 8;             // leading full steps
  int interval = 4;           // steps from one full step to the next
  int order = 1;              // Taylor order of cached heads
  int schedule_steps = 50;    // run length that warmup is meant for; 0 = take it as it is
  int block_q = 64;
  int block_kv = 64;
};

Result<std::unique_ptr<Strategy>> make_plan(const PlanOptions& options);
Result<std::unique_ptr<Strategy>> make_ditfastattn(const DitFastAttnOptions& options);
Result<std::unique_ptr<Strategy>> make_ditfastattn_v2(const DitFastAttnV2Options& options);
Result<std::unique_ptr<Strategy>> make_head_cache(const HeadCacheOptions& options);

}  // namespace flashomni

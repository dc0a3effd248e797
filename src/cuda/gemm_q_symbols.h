// SPDX-License-Identifier: Apache-2.0
//
// How both kernel paths of GEMM-Q are told which rows of Q to compute.
#pragma once

#include <cstdint>

#include "base/ceil_div.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// S_c of the rows of a segment, for either path's GemmQArgs. REQUIRES: params.symbols is given.
template <class Args>
void take_symbols(const GemmQParams& params, Args& args) {
  const SymbolGeometry& g = params.symbols.geometry;
  const int64_t end = params.token_offset + params.x.size(1);
  args.c = params.symbols.c;
  args.c_words = g.c_words();
  args.block_rows = g.block_q;
  args.first_block = params.token_offset / g.block_q;
  args.end_block = static_cast<int32_t>(ceil_div(end, g.block_q));
}

}  // namespace flashomni::cuda

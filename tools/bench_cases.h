// SPDX-License-Identifier: Apache-2.0
//
// What `flashomni bench` times: operations on random data at a list of sparsities, each beside its
// dense self, in one process and interleaved, so that clocks and neighbours disturb all alike.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/backend.h"

namespace flashomni::tools {

// One line of the result; the names are those of the JSON.
struct BenchRow {
  std::string op;
  std::string dtype = "f32";
  std::string pattern = "dense";  // dense, s_s, s_c, both, window
  int64_t n = 0;                  // tokens, or rows of a linear
  int heads = 0;
  int head_dim = 0;
  int64_t in_features = 0;  // of projections
  int64_t out_features = 0;
  int block_q = 0;
  int block_kv = 0;
  std::string step;     // of a generation: "all", or the kind of step; empty for kernels
  int64_t calls = 0;    // in one generation, in all its steps of that kind
  double sparsity = 0;  // share of the dense work that the symbols leave out, as built
  double flops = 0;     // that remain
  double bytes = 0;     // that must move at least (GEMM-O); 0: compute alone limits

  std::vector<double> seconds;  // of every repetition
  double ms_median = 0, ms_p10 = 0, ms_p90 = 0;
  double speedup_vs_dense = 1;
  double efficiency = 1;  // speed-up * (1 - sparsity); against the limit where `bytes` matters
};

// A row and the call that it times; owns its data.
struct BenchCase {
  BenchRow row;
  std::function<Status()> run;
};

// Symbols to time with, and what rows call them.
struct BenchSymbols {
  std::string pattern;
  SparseSymbols symbols;
};

struct BenchShape {
  int64_t n = 4608;
  int heads = 24;
  int head_dim = 128;
  int block_q = 64;
  int block_kv = 64;
  int64_t in_features = 0;    // linear; 0 = heads * head_dim
  int64_t out_features = 0;   // linear; 0 = heads * head_dim
  int planes = 2;             // bias planes that GEMM-O adds: 2 are a first-order forecast
  DType dtype = DType::kF32;  // of activations, weights and planes
  uint64_t seed = 1;
  // Of a trace, in place of those that patterns and sparsities ask for. REQUIRES their geometry to
  // be that of this shape.
  std::vector<BenchSymbols> replay;
};

// Whether symbols of this shape can exist.
Status check_shape(const BenchShape& shape);

// Each makes the dense case first, then one per (pattern, sparsity); those of GEMM-Q and GEMM-O end
// with a linear layer of the same size where another library computes that (on a GPU).
Result<std::vector<BenchCase>> attention_cases(Backend& backend, const BenchShape& shape,
                                               const std::vector<std::string>& patterns,
                                               const std::vector<double>& sparsities);
Result<std::vector<BenchCase>> gemm_q_cases(Backend& backend, const BenchShape& shape,
                                            const std::vector<double>& sparsities);
// Q by symbols with dense K and V in one call; `sparsity` is the share of all three.
Result<std::vector<BenchCase>> gemm_qkv_cases(Backend& backend, const BenchShape& shape,
                                              const std::vector<double>& sparsities);
Result<std::vector<BenchCase>> gemm_o_cases(Backend& backend, const BenchShape& shape,
                                            const std::vector<double>& sparsities);
Result<std::vector<BenchCase>> linear_cases(Backend& backend, const BenchShape& shape);
// Building symbols from queries, keys and outputs as strategies do, planning and counting them,
// beside dense attention of the same shape.
Result<std::vector<BenchCase>> symbols_cases(Backend& backend, const BenchShape& shape);

}  // namespace flashomni::tools

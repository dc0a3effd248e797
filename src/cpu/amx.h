// SPDX-License-Identifier: Apache-2.0
//
// Matrix products in bf16 with sums in f32, on the tile unit (AMX) of Intel processors from
// Sapphire Rapids on: linear layers, GEMM-Q and GEMM-O run on them where BackendOptions::precision
// asks for it. Everything between the products (softmax, norms, RoPE, epilogues, features) stays in
// f32.
#pragma once

#include "cpu/kernel_table.h"

namespace flashomni::cpu {

// The AVX-512 kernels with their products in bf16; null where this build, processor or kernel has
// no tiles. The first call asks the operating system for them, for the whole process.
const KernelTable* amx_kernel_table();

}  // namespace flashomni::cpu

// SPDX-License-Identifier: Apache-2.0
//
// Compiles every kernel once per instruction set (Highway includes this file again for each) and
// makes one table of each.
#include "cpu/kernel_table.h"

#include "cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernel_table.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h: the kernels see the target that is being compiled.
#include "cpu/kernels/attention-inl.h"
#include "cpu/kernels/epilogue-inl.h"
#include "cpu/kernels/gemm-inl.h"
#include "cpu/kernels/peak-inl.h"
#include "cpu/kernels/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

extern const KernelTable kTable;
const KernelTable kTable = {
    .lanes = kLanes,
    .panel = kPanel,
    .gemm = gemm,
    .gemm_f32 = gemm,
    .epilogue = epilogue,
    .head_epilogue = head_epilogue,
    .attention = &kAttention<kPanelVectors>,
    .narrow_attention = &kAttention<kNarrowVectors>,
    .to_f32 = to_f32,
    .norm_modulate = norm_modulate,
    .pool = pool,
    .sum_rows = sum_rows,
    .dot = dot,
    .taylor_update = taylor_update,
    .taylor_forecast = taylor_forecast,
    .activation = activation,
    .combine = combine,
    .exp2 = exp2_n,
    .exp = exp_n,
    .fma_rounds = fma_rounds,
    .fma_round_flops = kPeakChains * kLanes * 2,
};

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flashomni::cpu {

const int64_t* built_targets() {
  // Lower bits are better targets.
  static constexpr int64_t kTargets[] = {
#if HWY_TARGETS & HWY_AVX3
    HWY_AVX3,
#endif
#if HWY_TARGETS & HWY_AVX2
    HWY_AVX2,
#endif
#if HWY_TARGETS & HWY_NEON
    HWY_NEON,
#endif
#if HWY_TARGETS & HWY_EMU128
    HWY_EMU128,
#endif
#if HWY_TARGETS & HWY_SCALAR
    HWY_SCALAR,
#endif
    0
  };
  return kTargets;
}

const KernelTable* kernel_table(int64_t target) {
  switch (target) {
#if HWY_TARGETS & HWY_AVX3
    case HWY_AVX3:
      return &N_AVX3::kTable;
#endif
#if HWY_TARGETS & HWY_AVX2
    case HWY_AVX2:
      return &N_AVX2::kTable;
#endif
#if HWY_TARGETS & HWY_NEON
    case HWY_NEON:
      return &N_NEON::kTable;
#endif
#if HWY_TARGETS & HWY_EMU128
    case HWY_EMU128:
      return &N_EMU128::kTable;
#endif
#if HWY_TARGETS & HWY_SCALAR
    case HWY_SCALAR:
      return &N_SCALAR::kTable;
#endif
    default:
      return nullptr;
  }
}

}  // namespace flashomni::cpu
#endif  // HWY_ONCE

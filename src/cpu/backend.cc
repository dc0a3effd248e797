// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend: every operation checks its arguments and its workspace, then calls its driver.
#include "cpu/backend.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "base/large_memory.h"
#include "core/plan.h"
#include "core/symbols_view.h"
#include "cpu/antidiagonal.h"
#include "cpu/attention.h"
#include "cpu/checks.h"
#include "cpu/context.h"
#include "cpu/elementwise.h"
#include "cpu/gemm_q.h"
#include "cpu/isa.h"
#include "cpu/packed_weight.h"
#include "cpu/peak.h"
#include "cpu/pooling.h"
#include "cpu/projection.h"
#include "cpu/row_scores.h"
#include "cpu/select.h"
#include "cpu/select_more.h"

namespace flashomni::cpu {
namespace {

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) : memory_(allocate_memory(bytes)) {
    data_ = memory_.get();
    bytes_ = bytes;
  }

 private:
  Memory memory_;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Isa& isa, int threads)
      : isa_(isa), pool_(threads), context_{*isa.kernels, pool_} {}

  double measure_peak_flops() override { return cpu::measure_peak_flops(context_); }

  BackendInfo info() const override {
    BackendInfo info;
    info.name = "cpu";
    info.device = processor_name();
    info.isa = isa_.description;
    info.threads = pool_.size();
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) {
      info.memory_bytes = static_cast<size_t>(pages) * static_cast<size_t>(page);
    }
    return info;
  }

  Result<std::unique_ptr<Buffer>> allocate(size_t bytes) override {
    std::unique_ptr<Buffer> buffer = std::make_unique<HostBuffer>(bytes);
    if (!buffer->data()) {
      return out_of_memory("no memory for a buffer of " + std::to_string(bytes) + " bytes");
    }
    return buffer;
  }
  Status synchronize(const Exec&) override { return ok_status(); }
  // Operations are done when they return: a mark is a time in nanoseconds.
  Result<int64_t> mark(const Exec&) override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  Result<double> seconds_between(int64_t from, int64_t to) override {
    return 1e-9 * static_cast<double>(to - from);
  }
  Status upload(const Exec&, void* dst, const void* src, size_t bytes) override {
    if (bytes > 0) std::memcpy(dst, src, bytes);
    return ok_status();
  }
  Status download(const Exec& exec, void* dst, const void* src, size_t bytes) override {
    return upload(exec, dst, src, bytes);
  }

  Result<std::shared_ptr<const PackedWeight>> pack_weight(const WeightDesc& desc) override {
    return CpuPackedWeight::pack(context_, desc);
  }

  // Of parameters that an operation refuses, nothing is needed.
  size_t workspace_bytes(const AttentionParams& p) const override {
    return check_attention(p).ok() ? attention_workspace_bytes(context_, p) : 0;
  }
  size_t workspace_bytes(const LinearParams&) const override {
    return projection_workspace_bytes(context_);
  }
  size_t workspace_bytes(const GemmQParams&) const override {
    return gemm_q_workspace_bytes(context_);
  }
  size_t workspace_bytes(const GemmQkvParams& p) const override { return workspace_bytes(p.q); }
  size_t workspace_bytes(const GemmOParams&) const override {
    return projection_workspace_bytes(context_);
  }

  Status supports(const AttentionParams& p) const override { return check_attention(p); }
  Status supports(const LinearParams& p) const override { return check_linear(*isa_.kernels, p); }
  Status supports(const GemmQParams& p) const override { return check_gemm_q(*isa_.kernels, p); }
  Status supports(const GemmQkvParams& p) const override {
    return check_gemm_qkv(*isa_.kernels, p);
  }
  Status supports(const GemmOParams& p) const override { return check_gemm_o(*isa_.kernels, p); }
  Status supports(const GemmOUpdateParams& p) const override {
    return check_gemm_o_update(*isa_.kernels, p);
  }

  Status linear(const Exec& exec, const LinearParams& p) override {
    FO_RETURN_IF_ERROR(check_linear(*isa_.kernels, p));
    FO_RETURN_IF_ERROR(check_workspace("linear", exec, workspace_bytes(p)));
    cpu::linear(context_, exec.workspace, p);
    return ok_status();
  }
  Status norm_modulate(const Exec&, const NormModulateParams& p) override {
    FO_RETURN_IF_ERROR(check_norm_modulate(p));
    cpu::norm_modulate(context_, p);
    return ok_status();
  }
  Status rms_norm(const Exec&, const RmsNormParams& p) override {
    FO_RETURN_IF_ERROR(check_rms_norm(p));
    cpu::rms_norm(context_, p);
    return ok_status();
  }
  Status gemm_q(const Exec& exec, const GemmQParams& p) override {
    FO_RETURN_IF_ERROR(check_gemm_q(*isa_.kernels, p));
    FO_RETURN_IF_ERROR(check_workspace("gemm_q", exec, workspace_bytes(p)));
    cpu::gemm_q(context_, exec.workspace, p);
    return ok_status();
  }
  Status gemm_qkv(const Exec& exec, const GemmQkvParams& p) override {
    FO_RETURN_IF_ERROR(check_gemm_qkv(*isa_.kernels, p));
    FO_RETURN_IF_ERROR(check_workspace("gemm_qkv", exec, workspace_bytes(p)));
    for (const GemmQParams* one : {&p.q, &p.k, &p.v}) {
      cpu::gemm_q(context_, exec.workspace, *one);
    }
    return ok_status();
  }
  Status attention(const Exec& exec, const AttentionParams& p) override {
    FO_RETURN_IF_ERROR(check_attention(p));
    FO_RETURN_IF_ERROR(check_workspace("attention", exec, attention_workspace_bytes(context_, p)));
    cpu::attention(context_, exec.workspace, p);
    return ok_status();
  }
  Status gemm_o(const Exec& exec, const GemmOParams& p) override {
    FO_RETURN_IF_ERROR(check_gemm_o(*isa_.kernels, p));
    FO_RETURN_IF_ERROR(check_workspace("gemm_o", exec, workspace_bytes(p)));
    cpu::gemm_o(context_, exec.workspace, p);
    return ok_status();
  }
  Status gemm_o_update(const Exec& exec, const GemmOUpdateParams& p) override {
    FO_RETURN_IF_ERROR(check_gemm_o_update(*isa_.kernels, p));
    FO_RETURN_IF_ERROR(check_workspace("gemm_o_update", exec, workspace_bytes(p.base)));
    cpu::gemm_o_update(context_, exec.workspace, p);
    return ok_status();
  }

  Status token_mean(const Exec&, const TokenMeanParams& p) override {
    FO_RETURN_IF_ERROR(check_token_mean(p));
    cpu::token_mean(context_, p);
    return ok_status();
  }
  Status pool(const Exec&, const PoolParams& p) override {
    FO_RETURN_IF_ERROR(check_pool(p));
    const size_t bytes = static_cast<size_t>(pool_scratch_floats(p)) * sizeof(float);
    FO_RETURN_IF_ERROR(grow_scratch(bytes * static_cast<size_t>(pool_.size())));
    cpu::pool(context_, static_cast<float*>(scratch_.get()), p);
    return ok_status();
  }
  Status block_scores(const Exec&, const BlockScoresParams& p) override {
    FO_RETURN_IF_ERROR(check_block_scores(p));
    cpu::block_scores(context_, p);
    return ok_status();
  }
  Status select_cached_rows(const Exec&, const SelectCachedRowsParams& p) override {
    FO_RETURN_IF_ERROR(check_select_cached_rows(p));
    FO_RETURN_IF_ERROR(grow_select_scratch(p.symbols.geometry));
    cpu::select_cached_rows(context_, scratch_.get(), p);
    return ok_status();
  }
  Status select_kv_blocks(const Exec&, const SelectKvBlocksParams& p) override {
    FO_RETURN_IF_ERROR(check_select_kv_blocks(p));
    FO_RETURN_IF_ERROR(grow_select_scratch(p.symbols.geometry));
    cpu::select_kv_blocks(context_, scratch_.get(), p);
    return ok_status();
  }
  Status antidiagonal_scores(const Exec&, const AntidiagonalScoresParams& p) override {
    FO_RETURN_IF_ERROR(check_antidiagonal_scores(p));
    FO_RETURN_IF_ERROR(
        grow_scratch(antidiagonal_scratch_bytes(context_, p) * static_cast<size_t>(pool_.size())));
    cpu::antidiagonal_scores(context_, scratch_.get(), p);
    return ok_status();
  }
  Status column_mass(const Exec&, const ColumnMassParams& p) override {
    FO_RETURN_IF_ERROR(check_column_mass(p));
    cpu::column_mass(context_, p);
    return ok_status();
  }
  Status block_change(const Exec&, const BlockChangeParams& p) override {
    FO_RETURN_IF_ERROR(check_block_change(p));
    cpu::block_change(context_, p);
    return ok_status();
  }
  Status select_rows(const Exec&, const SelectRowsParams& p) override {
    FO_RETURN_IF_ERROR(check_select_rows(p));
    FO_RETURN_IF_ERROR(grow_select_scratch(p.symbols.geometry));
    cpu::select_rows(context_, scratch_.get(), p);
    return ok_status();
  }
  Status select_kv_share(const Exec&, const SelectKvShareParams& p) override {
    FO_RETURN_IF_ERROR(check_select_kv_share(p));
    cpu::select_kv_share(context_, p);
    return ok_status();
  }
  Status select_pattern(const Exec&, const SelectPatternParams& p) override {
    FO_RETURN_IF_ERROR(check_select_pattern(p));
    cpu::select_pattern(context_, p);
    return ok_status();
  }
  Status keep_columns(const Exec&, const KeepColumnsParams& p) override {
    FO_RETURN_IF_ERROR(check_keep_columns(p));
    cpu::keep_columns(context_, p);
    return ok_status();
  }
  Status measure_change(const Exec&, const MeasureChangeParams& p) override {
    FO_RETURN_IF_ERROR(check_measure_change(p));
    cpu::measure_change(context_, p);
    return ok_status();
  }
  Status count_symbols(const Exec&, const CountSymbolsParams& p) override {
    FO_RETURN_IF_ERROR(check_count_symbols(p));
    *p.out = flashomni::count_symbols(p.symbols);
    return ok_status();
  }
  size_t plan_bytes(const SymbolGeometry& geometry) const override {
    return geometry.validate().ok() ? flashomni::plan_bytes(geometry) : 0;
  }
  Status plan(const Exec&, const PlanParams& p) override {
    FO_RETURN_IF_ERROR(check_plan(p));
    build_plan(p.symbols, p.plan.data);
    return ok_status();
  }

  Status taylor_update(const Exec&, const TaylorUpdateParams& p) override {
    FO_RETURN_IF_ERROR(check_taylor_update(p));
    cpu::taylor_update(context_, p);
    return ok_status();
  }
  Status taylor_forecast(const Exec&, const TaylorForecastParams& p) override {
    FO_RETURN_IF_ERROR(check_taylor_forecast(p));
    cpu::taylor_forecast(context_, p);
    return ok_status();
  }
  Status activation(const Exec&, const ActivationParams& p) override {
    FO_RETURN_IF_ERROR(check_activation(p));
    cpu::activation(context_, p);
    return ok_status();
  }
  Status combine(const Exec&, const CombineParams& p) override {
    FO_RETURN_IF_ERROR(check_combine(p));
    cpu::combine(context_, p);
    return ok_status();
  }
  Status copy(const Exec&, const CopyParams& p) override {
    FO_RETURN_IF_ERROR(check_copy(p));
    cpu::copy(context_, p);
    return ok_status();
  }

 private:
  // Pooling and selection get no workspace from their caller; they need a few kilobytes a thread,
  // kept from the first call that needs them on.
  Status grow_scratch(size_t bytes) {
    if (bytes <= scratch_bytes_) return ok_status();
    scratch_ = allocate_memory(bytes);
    scratch_bytes_ = scratch_ ? bytes : 0;
    if (scratch_) return ok_status();
    return out_of_memory("no memory for " + std::to_string(bytes) + " bytes of scratch");
  }
  Status grow_select_scratch(const SymbolGeometry& g) {
    return grow_scratch(select_scratch_bytes(std::max(g.num_q_blocks(), g.num_kv_blocks())) *
                        static_cast<size_t>(pool_.size()));
  }

  const Isa isa_;
  ThreadPool pool_;
  const Context context_;
  Memory scratch_;
  size_t scratch_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options) {
  constexpr int kMaxThreads = 1024;
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return invalid_argument("threads is " + std::to_string(options.threads) + ", wanted 0.." +
                            std::to_string(kMaxThreads) + " (0: all cores)");
  }
  FO_ASSIGN_OR_RETURN(Isa isa, find_isa(options.isa));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(isa, options.threads));
}

}  // namespace flashomni::cpu

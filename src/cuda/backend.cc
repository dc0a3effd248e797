// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend: every operation checks its arguments and its workspace, then queues its kernels
// on the caller's stream. Memory that operations need of their own is taken when the backend is
// made, never inside a step.
#include "cuda/backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/graph_backend.h"
#include "core/op_names.h"
#include "core/update_backend.h"
#include "cuda/attention.h"
#include "cuda/attention_plan.h"
#include "cuda/checks.h"
#include "cuda/config.h"
#include "cuda/device.h"
#include "cuda/error.h"
#include "cuda/event_pool.h"
#include "cuda/gemm_o.h"
#include "cuda/gemm_plan.h"
#include "cuda/gemm_q.h"
#include "cuda/graph.h"
#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/plan/attention_plan.h"
#include "cuda/kernels/plan/gemm_plan.h"
#include "cuda/kernels/symbols/pooling.h"
#include "cuda/kernels/symbols/scores.h"
#include "cuda/kernels/symbols/select.h"
#include "cuda/linear.h"
#include "cuda/packed_weight.h"
#include "cuda/pending_results.h"
#include "cuda/profiler_range.h"
#include "cuda/tensor_map.h"

namespace flashomni::cuda {
namespace {

// With fewer rows the dense layer is quick anyway, and GEMM-O's tiles of 128 rows do not fill the
// GPU.
constexpr int64_t kRowsOfGatedProduct = 1024;

class DeviceBuffer final : public Buffer {
 public:
  static Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes) {
    auto buffer = std::make_unique<DeviceBuffer>();
    FO_ASSIGN_OR_RETURN(buffer->memory_, allocate_device_memory(bytes, "allocating a buffer"));
    buffer->data_ = buffer->memory_.get();
    buffer->bytes_ = bytes;
    return buffer;
  }

 private:
  DevicePointer memory_;
};

cudaStream_t stream_of(const Exec& exec) {
  return static_cast<cudaStream_t>(exec.stream);
}

// Standard containers throw when memory ends; nothing may throw out of a backend.
template <class F>
auto guarded(const F& f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return out_of_memory("no host memory left");
  } catch (const std::exception& e) {
    return internal_error(e.what());
  }
}

// A linear layer that ends in a gated residual as GEMM-O over heads of 128 features; none if its
// types, sizes or addresses do not fit.
std::optional<GemmOParams> gated_product(const LinearParams& p) {
  constexpr int64_t kHeadDim = 128;
  const TensorView& x = p.x;
  if (!p.residual || !p.gate || p.activation != Activation::kNone || x.rank != 3) return {};
  if (x.size(2) % kHeadDim != 0 || x.size(1) < kRowsOfGatedProduct) return {};
  GemmOParams o{.attn = x, .weight = p.weight, .rows = static_cast<int>(x.size(1))};
  o.attn.rank = 4;
  o.attn.shape[2] = x.size(2) / kHeadDim;
  o.attn.stride[2] = kHeadDim;
  o.attn.shape[3] = kHeadDim;
  o.attn.stride[3] = 1;
  o.out = p.out;
  o.residual = p.residual;
  o.gate = p.gate;
  if (!check_gemm_o(o).ok()) return {};
  return o;
}

// Calls f for every run of neighbours whose symbols are of one geometry.
template <class Job, class F>
Status for_each_geometry(std::span<const Job> jobs, const F& f) {
  while (!jobs.empty()) {
    const SymbolGeometry& g = jobs[0].symbols.geometry;
    size_t n = 1;
    while (n < jobs.size() && jobs[n].symbols.geometry == g) ++n;
    FO_RETURN_IF_ERROR(f(jobs.first(n)));
    jobs = jobs.subspan(n);
  }
  return ok_status();
}

class CudaBackend final : public Backend, public UpdateBackend {
 public:
  CudaBackend(DeviceInfo device, KernelPath path, std::unique_ptr<DenseLinear> linear,
              std::unique_ptr<PendingCounts> counts, std::unique_ptr<PendingSums> sums)
      : device_(std::move(device)),
        path_(path),
        plan_grid_(cuda::plan_grid(path, device_.sms, device_.shared_bytes)),
        linear_(std::move(linear)),
        counts_(std::move(counts)),
        sums_(std::move(sums)),
        dense_(plan_grid_),
        launcher_{device_.sms, maps_, dense_, path_} {}

  DType activation_dtype() const override { return DType::kBF16; }
  BackendInfo info() const override {
    BackendInfo info;
    info.name = "cuda";
    info.device = device_.name;
    info.isa = describe_kernel_path(path_);
    info.memory_bytes = device_.memory_bytes;
    return info;
  }

  void set_scope(const std::string& name) override { scope_.enter(name); }
  size_t free_memory_bytes() const override {
    if (!device_memory_is_the_runtimes()) return 0;
    size_t free = 0, total = 0;
    return cuda_status(cudaMemGetInfo(&free, &total), "asking for free memory").ok() ? free : 0;
  }

  Result<std::unique_ptr<Graph>> capture(const std::vector<QueuedOperation>& operations) override {
    return guarded([&] { return graphs_.capture(operations); });
  }
  Status launch(const Exec& exec, const Graph& graph) override {
    return launch_graph(stream_of(exec), graph);
  }

  Result<std::unique_ptr<Buffer>> allocate(size_t bytes) override {
    return guarded([&]() -> Result<std::unique_ptr<Buffer>> {
      FO_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, DeviceBuffer::allocate(bytes));
      return buffer;
    });
  }
  Status synchronize(const Exec& exec) override {
    FO_CUDA(cudaStreamSynchronize(stream_of(exec)), "waiting for the GPU");
    counts_->deliver(stream_of(exec));
    sums_->deliver(stream_of(exec));
    return ok_status();
  }
  // Both wait: the host memory may be gone or read right after the call.
  Status upload(const Exec& exec, void* dst, const void* src, size_t bytes) override {
    if (bytes == 0) return ok_status();
    FO_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, stream_of(exec)),
            "copying to the GPU");
    return synchronize(exec);
  }
  Status download(const Exec& exec, void* dst, const void* src, size_t bytes) override {
    if (bytes == 0) return ok_status();
    FO_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream_of(exec)),
            "copying from the GPU");
    return synchronize(exec);
  }

  Result<int64_t> mark(const Exec& exec) override {
    return guarded([&] { return events_.record(stream_of(exec)); });
  }
  Result<double> seconds_between(int64_t from, int64_t to) override {
    return events_.seconds_between(from, to);
  }
  void clear_marks() override { events_.clear(); }

  Result<std::shared_ptr<const PackedWeight>> pack_weight(const WeightDesc& desc) override {
    return guarded([&]() -> Result<std::shared_ptr<const PackedWeight>> {
      FO_RETURN_IF_ERROR(check_weight_desc(desc));
      return CudaPackedWeight::pack(desc);
    });
  }

  // Of parameters that an operation refuses, nothing is needed.
  size_t workspace_bytes(const AttentionParams& p) const override {
    if (!supports(p).ok()) return 0;
    // Now rather than in the call: it allocates. A failure shows there again, with its reason.
    if (!p.symbols) (void)dense_.get(p);
    return attention_workspace_bytes(p, plan_grid_);
  }
  size_t workspace_bytes(const LinearParams& p) const override {
    return supports(p).ok() ? linear_workspace_bytes(p, p.weight->out_features()) : 0;
  }
  size_t workspace_bytes(const GemmQParams&) const override { return 0; }
  size_t workspace_bytes(const GemmQkvParams&) const override { return 0; }
  size_t workspace_bytes(const GemmOParams&) const override { return 0; }

  Status supports(const AttentionParams& p) const override {
    FO_RETURN_IF_ERROR(check_attention(p));
    AttentionProblem problem{.dtype = p.q.dtype, .head_dim = static_cast<int>(p.q.size(3))};
    if (p.symbols) {
      problem.block_q = p.symbols.geometry.block_q;
      problem.block_kv = p.symbols.geometry.block_kv;
    }
    FO_RETURN_IF_ERROR(check_attention_kernel(problem));
    return check_plan_given(p.symbols, p.plan);
  }
  Status supports(const LinearParams& p) const override {
    if (!p.weight) return wanted("weight", "missing", "a packed weight");
    const CudaPackedWeight* weight = cuda_weight(p.weight);
    if (!weight) {
      return invalid_argument(
          "weight was packed by another backend, wanted one packed by this one");
    }
    return check_linear(p, weight->in_features(), weight->out_features());
  }
  Status supports(const GemmQParams& p) const override {
    FO_RETURN_IF_ERROR(check_gemm_q(p));
    return check_plan_given(p.symbols, p.plan);
  }
  Status supports(const GemmQkvParams& p) const override {
    FO_RETURN_IF_ERROR(check_gemm_qkv(p));
    return check_plan_given(p.q.symbols, p.q.plan);
  }
  Status supports(const GemmOParams& p) const override {
    FO_RETURN_IF_ERROR(check_gemm_o(p));
    return check_plan_given(p.symbols, p.plan);
  }
  Status supports(const GemmOUpdateParams& p) const override {
    FO_RETURN_IF_ERROR(check_gemm_o_update(p));
    return check_plan_given(p.base.symbols, p.base.plan);
  }

  Status linear(const Exec& exec, const LinearParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      // Onto a gated residual in one pass, where our own product has such an epilogue.
      if (const auto fused = gated_product(p); fused && path_ == KernelPath::kHopper) {
        return cuda::gemm_o(stream_of(exec), launcher_, *fused, nullptr);
      }
      FO_RETURN_IF_ERROR(check_workspace("linear", exec, workspace_bytes(p)));
      const CudaPackedWeight& w = *cuda_weight(p.weight);
      return linear_->run(stream_of(exec), exec.workspace, p,
                          {.data = w.data(),
                           .dtype = w.dtype(),
                           .out_features = w.out_features(),
                           .in_features = w.in_features(),
                           .bias = w.bias(),
                           .narrow_bias = w.narrow_bias()});
    });
  }
  Status norm_modulate(const Exec& exec, const NormModulateParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_norm_modulate(p));
    return cuda::norm_modulate(stream_of(exec), p);
  }
  Status rms_norm(const Exec& exec, const RmsNormParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_rms_norm(p));
    return cuda::rms_norm(stream_of(exec), p);
  }
  Status gemm_q(const Exec& exec, const GemmQParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      return cuda::gemm_q(stream_of(exec), launcher_, p, gemm_section(p.symbols, p.plan));
    });
  }
  Status gemm_qkv(const Exec& exec, const GemmQkvParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      return cuda::gemm_qkv(stream_of(exec), launcher_, p, gemm_section(p.q.symbols, p.q.plan));
    });
  }
  Status attention(const Exec& exec, const AttentionParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      FO_RETURN_IF_ERROR(check_workspace("attention", exec, workspace_bytes(p)));
      return cuda::attention(stream_of(exec), launcher_, exec.workspace, p);
    });
  }
  Status gemm_o(const Exec& exec, const GemmOParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      return cuda::gemm_o(stream_of(exec), launcher_, p, gemm_section(p.symbols, p.plan));
    });
  }
  Status gemm_o_update(const Exec& exec, const GemmOUpdateParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&] {
      FO_RETURN_IF_ERROR(supports(p));
      return cuda::gemm_o_update(stream_of(exec), launcher_, p,
                                 gemm_section(p.base.symbols, p.base.plan));
    });
  }

  Status token_mean(const Exec& exec, const TokenMeanParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_token_mean(p));
    return cuda::token_mean(stream_of(exec), p);
  }
  Status pool(const Exec& exec, const PoolParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_pool(p));
    return cuda::pool(stream_of(exec), p);
  }
  Status pool_pair(const Exec& exec, const PoolParams& q, const PoolParams& k) override {
    const ProfilerRange range(op_name(q));
    FO_RETURN_IF_ERROR(check_pool(q));
    FO_RETURN_IF_ERROR(check_pool(k));
    return cuda::pool_pair(stream_of(exec), q, k);
  }
  Status block_scores(const Exec& exec, const BlockScoresParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_block_scores(p));
    return cuda::block_scores(stream_of(exec), p);
  }
  Status select_cached_rows(const Exec& exec, const SelectCachedRowsParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_select_cached_rows(p));
    return cuda::select_cached_rows(stream_of(exec), p);
  }
  Status select_kv_blocks(const Exec& exec, const SelectKvBlocksParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_select_kv_blocks(p));
    return cuda::select_kv_blocks(stream_of(exec), p);
  }
  Status antidiagonal_scores(const Exec& exec, const AntidiagonalScoresParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_antidiagonal_scores(p));
    return cuda::antidiagonal_scores(stream_of(exec), p);
  }
  Status column_mass(const Exec& exec, const ColumnMassParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_column_mass(p));
    return cuda::column_mass(stream_of(exec), p);
  }
  Status block_change(const Exec& exec, const BlockChangeParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_block_change(p));
    return cuda::block_change(stream_of(exec), p);
  }
  Status select_rows(const Exec& exec, const SelectRowsParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_select_rows(p));
    return cuda::select_rows(stream_of(exec), p);
  }
  Status select_kv_share(const Exec& exec, const SelectKvShareParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_select_kv_share(p));
    return cuda::select_kv_share(stream_of(exec), p);
  }
  Status select_pattern(const Exec& exec, const SelectPatternParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_select_pattern(p));
    return cuda::select_pattern(stream_of(exec), p);
  }
  Status keep_columns(const Exec& exec, const KeepColumnsParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_keep_columns(p));
    return cuda::keep_columns(stream_of(exec), p);
  }
  Status count_symbols(const Exec& exec, const CountSymbolsParams& p) override {
    return count_all(exec, {&p, 1});
  }
  Status count_all(const Exec& exec, std::span<const CountSymbolsParams> all) override {
    const ProfilerRange range(op_name(CountSymbolsParams{}));
    return guarded([&]() -> Status {
      count_jobs_.clear();
      for (const CountSymbolsParams& p : all) {
        FO_RETURN_IF_ERROR(check_count_symbols(p));
        const SymbolGeometry& g = p.symbols.geometry;
        SymbolCounts totals;
        totals.rows = int64_t{g.batch} * g.heads * g.num_q_blocks();
        totals.pairs = totals.rows * g.num_kv_blocks();
        FO_ASSIGN_OR_RETURN(SymbolCountParts * parts, counts_->add(stream_of(exec), totals, p.out));
        count_jobs_.push_back({p.symbols, parts});
      }
      return for_each_geometry(std::span<const SymbolCountJob>(count_jobs_), [&](const auto& some) {
        return cuda::count_symbols(stream_of(exec), some);
      });
    });
  }

  Status measure_change(const Exec& exec, const MeasureChangeParams& p) override {
    const ProfilerRange range(op_name(p));
    return guarded([&]() -> Status {
      FO_RETURN_IF_ERROR(check_measure_change(p));
      FO_ASSIGN_OR_RETURN(ChangeSums * sums, sums_->add(stream_of(exec), {}, p.out));
      return cuda::measure_change(stream_of(exec), p, sums);
    });
  }

  // The attention part comes first, then that of the projections.
  size_t plan_bytes(const SymbolGeometry& geometry) const override {
    if (!check_attention_plan(geometry, plan_grid_).ok()) return 0;
    // Projections take no ragged blocks.
    if (geometry.ragged()) return attention_bytes(geometry);
    return attention_bytes(geometry) + GemmPlanLayout(geometry).bytes;
  }
  Status plan(const Exec& exec, const PlanParams& p) override { return plan_all(exec, {&p, 1}); }
  Status plan_all(const Exec& exec, std::span<const PlanParams> all) override {
    const ProfilerRange range(op_name(PlanParams{}));
    return guarded([&]() -> Status {
      plan_jobs_.clear();
      for (const PlanParams& p : all) {
        FO_RETURN_IF_ERROR(check_whole_plan(p));
        plan_jobs_.push_back({p.symbols, p.plan.data, gemm_section(p.symbols, p.plan)});
      }
      return for_each_geometry(std::span<const PlanJob>(plan_jobs_),
                               [&](const auto& some) { return plan_some(exec, some); });
    });
  }
  Status plan_projections(const Exec& exec, const PlanParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_whole_plan(p));
    if (p.symbols.geometry.ragged()) return ok_status();  // projections take no ragged blocks
    return build_gemm_plan(stream_of(exec), p.symbols, gemm_section(p.symbols, p.plan));
  }

  Status taylor_update(const Exec& exec, const TaylorUpdateParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_taylor_update(p));
    return cuda::taylor_update(stream_of(exec), p);
  }
  Status taylor_slope(const Exec& exec, const TaylorSlopeParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_taylor_slope(p));
    return cuda::taylor_slope(stream_of(exec), p);
  }
  Status taylor_forecast(const Exec& exec, const TaylorForecastParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_taylor_forecast(p));
    return cuda::taylor_forecast(stream_of(exec), p);
  }
  Status activation(const Exec& exec, const ActivationParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_activation(p));
    return cuda::activation(stream_of(exec), p);
  }
  Status combine(const Exec& exec, const CombineParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_combine(p));
    return cuda::combine(stream_of(exec), p);
  }
  Status copy(const Exec& exec, const CopyParams& p) override {
    const ProfilerRange range(op_name(p));
    FO_RETURN_IF_ERROR(check_copy(p));
    return cuda::copy(stream_of(exec), p);
  }

 private:
  size_t attention_bytes(const SymbolGeometry& geometry) const {
    return AttentionPlanLayout(geometry, plan_grid_).bytes;
  }
  Status check_whole_plan(const PlanParams& p) const {
    if (!p.symbols) return wanted("symbols", "missing", "both S_c and S_s");
    FO_RETURN_IF_ERROR(check_attention_plan(p.symbols.geometry, plan_grid_));
    return check_plan(p, plan_bytes(p.symbols.geometry));
  }
  // Plans of one geometry.
  Status plan_some(const Exec& exec, std::span<const PlanJob> jobs) const {
    if (!jobs[0].symbols.geometry.ragged()) {
      return build_plans(stream_of(exec), jobs, plan_grid_, kPlanHeadDim);
    }
    for (const PlanJob& job : jobs) {
      FO_RETURN_IF_ERROR(build_attention_plan(stream_of(exec), job.symbols, plan_grid_,
                                              kPlanHeadDim, job.section));
    }
    return ok_status();
  }
  void* gemm_section(const SymbolsView& symbols, const PlanView& plan) const {
    if (!symbols) return nullptr;
    return static_cast<char*>(plan.data) + attention_bytes(symbols.geometry);
  }
  Status check_plan_given(const SymbolsView& symbols, const PlanView& plan) const {
    if (!symbols) return ok_status();
    FO_RETURN_IF_ERROR(check_attention_plan(symbols.geometry, plan_grid_));
    return check_plan({symbols, plan}, plan_bytes(symbols.geometry));
  }

  const DeviceInfo device_;
  const KernelPath path_;
  const int plan_grid_;
  std::unique_ptr<DenseLinear> linear_;
  std::unique_ptr<PendingCounts> counts_;
  std::unique_ptr<PendingSums> sums_;
  // Of the call at work, so that one that follows allocates nothing.
  std::vector<PlanJob> plan_jobs_;
  std::vector<SymbolCountJob> count_jobs_;
  EventPool events_;
  ProfilerScope scope_;
  GraphRecorder graphs_;
  TensorMapCache maps_;
  mutable DensePlans dense_;
  Launcher launcher_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options) {
  return guarded([&]() -> Result<std::unique_ptr<Backend>> {
    FO_ASSIGN_OR_RETURN(DeviceInfo device, find_device());
    const char* variable = std::getenv(kKernelPathVariable);
    const std::string asked = variable ? variable : "";
    const Result<KernelPath> path =
        choose_kernel_path(device.compute_capability(), options.isa.empty() ? asked : options.isa);
    if (!path.ok()) {
      return Status(path.status().code(),
                    (options.isa.empty() ? std::string(kKernelPathVariable) : std::string("isa")) +
                        ": " + path.status().message() + " (" + device.name + ")");
    }
    FO_ASSIGN_OR_RETURN(auto linear, DenseLinear::create());
    FO_ASSIGN_OR_RETURN(auto counts, PendingCounts::create("symbol counts"));
    FO_ASSIGN_OR_RETURN(auto sums, PendingSums::create("measured changes"));
    std::unique_ptr<Backend> backend(std::make_unique<CudaBackend>(
        std::move(device), path.value(), std::move(linear), std::move(counts), std::move(sums)));
    return std::unique_ptr<Backend>(std::make_unique<GraphBackend>(std::move(backend)));
  });
}

}  // namespace flashomni::cuda

// SPDX-License-Identifier: Apache-2.0
//
// One table of operations that a device implements. The engine, the models, the tests and the
// command line reach compute only through this class.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/ops.h"
#include "flashomni/selection_ops.h"
#include "flashomni/status.h"

namespace flashomni {

// Memory of a backend, freed on destruction. Contents start undefined.
class Buffer {
 public:
  virtual ~Buffer() = default;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 protected:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Where and with what an operation runs. `stream` is a cudaStream_t on a GPU and unused on the
// CPU. `workspace` must hold workspace_bytes(params) bytes and may be reused by the next operation
// on the same stream.
struct Exec {
  void* stream = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};

// Operations captured once, launched as one as often as wanted.
class Graph {
 public:
  virtual ~Graph() = default;
};

// What became of the operations between begin_batch() and end_batch().
struct BatchOutcome {
  bool replayed = false;  // one graph stood for all of them
  bool captured = false;  // and it was made in this batch
  std::string reason;     // why they ran one by one; empty if replayed
};

struct BackendInfo {
  std::string name;         // "cpu", "cuda"
  std::string device;       // "Intel(R) Xeon(R) ..." / "NVIDIA H100 ..."
  std::string isa;          // "AVX3 (512 bit)" / "sm_90a (hopper)"
  int threads = 1;          // CPU worker threads
  size_t memory_bytes = 0;  // of the device; 0 if unknown
};

// Operations return once the work is queued (GPU) or done (CPU). None of them allocates,
// synchronises or reads back. `supports(params)` says in words why an operation cannot run, before
// any work starts; the operation itself makes the same check. One instance may be used from one
// thread at a time.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual BackendInfo info() const = 0;
  // What models keep their activations in here, so that every operation takes its fastest path.
  virtual DType activation_dtype() const { return DType::kF32; }
  // Multiply-add rate of this device measured by a short register-only loop, FLOP/s; 0 = unknown.
  virtual double measure_peak_flops() { return 0; }
  // Names what the next operations belong to ("transformer_blocks.0"), for profilers.
  virtual void set_scope(const std::string& name) { (void)name; }

  // Of the device, right now; 0 if unknown.
  virtual size_t free_memory_bytes() const { return 0; }

  virtual Result<std::unique_ptr<Buffer>> allocate(size_t bytes) = 0;
  // Waits until all queued work is done and its host-visible results are final.
  virtual Status synchronize(const Exec& exec) = 0;
  // A point in the work of a stream, to tell times without waiting for it. Seconds from one mark to
  // a later one of the same stream may be asked for once the stream is synchronised, and before
  // clear_marks().
  virtual Result<int64_t> mark(const Exec& exec) = 0;
  virtual Result<double> seconds_between(int64_t from, int64_t to) = 0;
  virtual void clear_marks() {}
  // Host to backend memory and back; not for use inside a denoising step.
  virtual Status upload(const Exec& exec, void* dst, const void* src, size_t bytes) = 0;
  virtual Status download(const Exec& exec, void* dst, const void* src, size_t bytes) = 0;

  // A backend with graphs may hold back the operations of a batch and replay the graph of an equal
  // batch before it (see core/graph_backend.h); their errors then come from end_batch(). Whatever
  // needs results ends the holding back. Callers must forget the graphs before memory or weights
  // that their batches used are freed.
  virtual Status begin_batch(const Exec&) { return ok_status(); }
  virtual Result<BatchOutcome> end_batch() {
    return BatchOutcome{.reason = "the " + info().name + " backend has no graphs"};
  }
  virtual void forget_graphs() {}
  // A graph of operations, each of which queues itself on the stream that it is given. Nothing of
  // them has run afterwards.
  using QueuedOperation = std::function<Status(void* stream)>;
  virtual Result<std::unique_ptr<Graph>> capture(const std::vector<QueuedOperation>&) {
    return left_out("graphs");
  }
  virtual Status launch(const Exec&, const Graph&) { return left_out("graphs"); }

  // Copies; the caller's tensors may go away afterwards. Refuses dtypes and shapes it cannot use.
  virtual Result<std::shared_ptr<const PackedWeight>> pack_weight(const WeightDesc& desc) = 0;

  // Upper bound of what any operation on these sizes needs as Exec::workspace.
  virtual size_t workspace_bytes(const AttentionParams& params) const = 0;
  virtual size_t workspace_bytes(const LinearParams& params) const = 0;
  virtual size_t workspace_bytes(const GemmQParams& params) const = 0;
  virtual size_t workspace_bytes(const GemmQkvParams& params) const = 0;
  virtual size_t workspace_bytes(const GemmOParams& params) const = 0;

  virtual Status supports(const AttentionParams& params) const = 0;
  virtual Status supports(const LinearParams& params) const = 0;
  virtual Status supports(const GemmQParams& params) const = 0;
  virtual Status supports(const GemmQkvParams& params) const = 0;
  virtual Status supports(const GemmOParams& params) const = 0;
  virtual Status supports(const GemmOUpdateParams& params) const = 0;

  virtual Status linear(const Exec& exec, const LinearParams& params) = 0;
  virtual Status norm_modulate(const Exec& exec, const NormModulateParams& params) = 0;
  virtual Status rms_norm(const Exec& exec, const RmsNormParams& params) = 0;
  virtual Status gemm_q(const Exec& exec, const GemmQParams& params) = 0;
  virtual Status gemm_qkv(const Exec& exec, const GemmQkvParams& params) = 0;
  virtual Status attention(const Exec& exec, const AttentionParams& params) = 0;
  virtual Status gemm_o(const Exec& exec, const GemmOParams& params) = 0;
  virtual Status gemm_o_update(const Exec& exec, const GemmOUpdateParams& params) = 0;

  virtual Status token_mean(const Exec& exec, const TokenMeanParams& params) = 0;
  virtual Status pool(const Exec& exec, const PoolParams& params) = 0;
  // Queries and keys at once: the same results as two calls, and faster where a launch costs.
  virtual Status pool_pair(const Exec& exec, const PoolParams& q, const PoolParams& k) {
    const Status done = pool(exec, q);
    return done.ok() ? pool(exec, k) : done;
  }
  virtual Status block_scores(const Exec& exec, const BlockScoresParams& params) = 0;
  virtual Status select_cached_rows(const Exec& exec, const SelectCachedRowsParams& params) = 0;
  virtual Status select_kv_blocks(const Exec& exec, const SelectKvBlocksParams& params) = 0;
  virtual Status count_symbols(const Exec& exec, const CountSymbolsParams& params) = 0;
  virtual size_t plan_bytes(const SymbolGeometry& geometry) const = 0;
  virtual Status plan(const Exec& exec, const PlanParams& params) = 0;

  virtual Status taylor_update(const Exec& exec, const TaylorUpdateParams& params) = 0;
  virtual Status taylor_forecast(const Exec& exec, const TaylorForecastParams& params) = 0;
  virtual Status activation(const Exec& exec, const ActivationParams& params) = 0;
  virtual Status combine(const Exec& exec, const CombineParams& params) = 0;
  virtual Status copy(const Exec& exec, const CopyParams& params) = 0;

  // Operations that a backend may leave out (selection_ops.h); it then refuses them by name.
  virtual Status antidiagonal_scores(const Exec&, const AntidiagonalScoresParams&) {
    return left_out("antidiagonal_scores");
  }
  virtual Status column_mass(const Exec&, const ColumnMassParams&) {
    return left_out("column_mass");
  }
  virtual Status block_change(const Exec&, const BlockChangeParams&) {
    return left_out("block_change");
  }
  virtual Status select_rows(const Exec&, const SelectRowsParams&) {
    return left_out("select_rows");
  }
  virtual Status select_kv_share(const Exec&, const SelectKvShareParams&) {
    return left_out("select_kv_share");
  }
  virtual Status select_pattern(const Exec&, const SelectPatternParams&) {
    return left_out("select_pattern");
  }
  virtual Status keep_columns(const Exec&, const KeepColumnsParams&) {
    return left_out("keep_columns");
  }
  virtual Status measure_change(const Exec&, const MeasureChangeParams&) {
    return left_out("measure_change");
  }

 private:
  Status left_out(const char* operation) const {
    return unsupported("the " + info().name + " backend has no " + operation);
  }
};

struct BackendOptions {
  int threads = 0;  // CPU worker threads; 0 = all cores this process may use
  // Force an instruction set ("SCALAR", "AVX2", "AVX3", "NEON") or a GPU's kernels ("hopper",
  // "portable"); empty = the best one. "AMX" is AVX3 with the products of linear layers, GEMM-Q and
  // GEMM-O in bf16 with sums in f32: several times as fast, and never chosen unasked.
  std::string isa;
};

// Makes the backend called `name` ("cpu"; "cuda" where built). Unknown names list the known ones.
Result<std::unique_ptr<Backend>> make_backend(const std::string& name,
                                              const BackendOptions& options = {});
// Names that this build offers.
std::vector<std::string> backend_names();

}  // namespace flashomni

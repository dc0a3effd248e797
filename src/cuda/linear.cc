// SPDX-License-Identifier: Apache-2.0
#include "cuda/linear.h"

#include <algorithm>
#include <string>

#include "cuda/error.h"
#include "cuda/kernels/elementwise/elementwise.h"
#include "cuda/kernels/linear/plain_matmul.h"

namespace flashomni::cuda {
namespace {

// What cuBLASLt may use; its fastest Hopper kernels ask for this much.
constexpr size_t kBlasBytes = size_t{32} << 20;
constexpr size_t kAlignment = 256;
constexpr uint32_t kMaxAlignment = 256;

size_t align(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The parts of the workspace: cuBLASLt's, and y where the caller wants only its sum with the
// residual.
struct Parts {
  size_t y = kBlasBytes;
  size_t bytes = kBlasBytes + kAlignment;  // to start at a multiple of it

  Parts(const LinearParams& p, int64_t out_features) {
    if (p.out) return;
    const TensorView& x = p.x;
    const int64_t rows = x.rank == 2 ? x.size(0) : x.size(0) * x.size(1);
    const bool wide = x.dtype == DType::kF32 || p.residual.dtype == DType::kF32;
    bytes += align(static_cast<size_t>(rows * out_features) * (wide ? 4 : 2));
  }
};

Status blas_status(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return ok_status();
  const StatusCode code =
      status == CUBLAS_STATUS_ALLOC_FAILED ? StatusCode::kOutOfMemory : StatusCode::kDeviceError;
  return {code, std::string(what) + ": " + cublasLtGetStatusString(status)};
}

cudaDataType_t data_type(DType dtype) {
  if (dtype == DType::kBF16) return CUDA_R_16BF;
  return dtype == DType::kF16 ? CUDA_R_16F : CUDA_R_32F;
}

// The largest power of two up to 256 that divides the address.
uint32_t alignment_of(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) | kMaxAlignment;
  return static_cast<uint32_t>(address & (~address + 1));
}

// The same tensor with a batch dimension.
TensorView batched(TensorView v) {
  if (!v || v.rank == 3) return v;
  v.rank = 3;
  for (int i = 2; i > 0; --i) {
    v.shape[i] = v.shape[i - 1];
    v.stride[i] = v.stride[i - 1];
  }
  v.shape[0] = 1;
  v.stride[0] = v.shape[1] * v.stride[1];
  return v;
}

// Everything that cuBLASLt needs to know of one product, on the stack.
struct BlasCall {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t w, x, y;
};

Status layout(cublasLtMatrixLayoutOpaque_t& out, DType dtype, int64_t rows, int64_t columns,
              int64_t leading, int64_t batch, int64_t batch_stride) {
  FO_RETURN_IF_ERROR(
      blas_status(cublasLtMatrixLayoutInit(&out, data_type(dtype), static_cast<uint64_t>(rows),
                                           static_cast<uint64_t>(columns), leading),
                  "describing a matrix to cuBLASLt"));
  if (batch == 1) return ok_status();
  const int32_t count = static_cast<int32_t>(batch);
  FO_RETURN_IF_ERROR(
      blas_status(cublasLtMatrixLayoutSetAttribute(&out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                   sizeof(count)),
                  "describing a batch to cuBLASLt"));
  return blas_status(
      cublasLtMatrixLayoutSetAttribute(&out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                       &batch_stride, sizeof(batch_stride)),
      "describing a batch to cuBLASLt");
}

// In cuBLASLt's column-major terms y^T [columns, rows] = W^T^T x^T.
Status describe(const BlasProblem& p, const void* bias, BlasCall& call) {
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const void* value, size_t bytes) {
    return blas_status(cublasLtMatmulDescSetAttribute(&call.operation, attribute, value, bytes),
                       "describing a product to cuBLASLt");
  };
  FO_RETURN_IF_ERROR(
      blas_status(cublasLtMatmulDescInit(&call.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                  "describing a product to cuBLASLt"));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)));
  const cublasLtEpilogue_t epilogue = static_cast<cublasLtEpilogue_t>(p.epilogue);
  FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)));
  if (p.epilogue & CUBLASLT_EPILOGUE_BIAS) {
    FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias)));
  }
  FO_RETURN_IF_ERROR(layout(call.w, p.x_dtype, p.depth, p.columns, p.depth, p.batch, 0));
  FO_RETURN_IF_ERROR(layout(call.x, p.x_dtype, p.depth, p.rows, p.x_row, p.batch, p.x_batch));
  return layout(call.y, p.y_dtype, p.columns, p.rows, p.y_row, p.batch, p.y_batch);
}

class Preference {
 public:
  ~Preference() {
    if (handle_) cublasLtMatmulPreferenceDestroy(handle_);
  }
  Preference() = default;
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;

  Status init(const BlasProblem& p) {
    FO_RETURN_IF_ERROR(
        blas_status(cublasLtMatmulPreferenceCreate(&handle_), "choosing an algorithm of cuBLASLt"));
    const size_t bytes = kBlasBytes;
    FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
    // Where k is split, parts are added in f32 and outside of the output: not in 16 bits there, one
    // after the other in whatever order they come.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    FO_RETURN_IF_ERROR(
        set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof(reductions)));
    FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p.w_alignment, 4));
    FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p.x_alignment, 4));
    FO_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p.y_alignment, 4));
    return set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p.y_alignment, 4);
  }
  cublasLtMatmulPreference_t get() const { return handle_; }

 private:
  Status set(cublasLtMatmulPreferenceAttributes_t attribute, const void* value, size_t bytes) {
    return blas_status(cublasLtMatmulPreferenceSetAttribute(handle_, attribute, value, bytes),
                       "choosing an algorithm of cuBLASLt");
  }
  cublasLtMatmulPreference_t handle_ = nullptr;
};

// The whole layer in our own kernels: any types, any addresses.
Status run_plain(cudaStream_t stream, const LinearParams& params, const LinearWeight& weight) {
  const TensorView x = batched(params.x);
  const TensorView out = batched(params.out), residual = batched(params.residual);
  PlainMatmul m;
  m.batch = x.size(0);
  m.rows = x.size(1);
  m.columns = weight.out_features;
  m.depth = weight.in_features;
  m.x = x;
  m.x_batch = x.stride[0];
  m.x_row = x.stride[1];
  m.w.data = const_cast<void*>(weight.data);
  m.w.dtype = weight.dtype;
  m.w_row = weight.in_features;
  m.bias = weight.bias;
  m.activation = params.activation;
  m.out = out;
  m.out_batch = out.stride[0];
  m.out_row = out.stride[1];
  m.residual = residual;
  m.residual_batch = residual.stride[0];
  m.residual_row = residual.stride[1];
  m.gate = params.gate;
  m.gate_batch = params.gate.stride[0];
  return plain_matmul(stream, m);
}

}  // namespace

Result<std::unique_ptr<DenseLinear>> DenseLinear::create() {
  cublasLtHandle_t handle = nullptr;
  FO_RETURN_IF_ERROR(blas_status(cublasLtCreate(&handle), "starting cuBLASLt"));
  return std::unique_ptr<DenseLinear>(new DenseLinear(handle));
}

DenseLinear::~DenseLinear() {
  cublasLtDestroy(handle_);
}

Result<DenseLinear::Choice> DenseLinear::choose(const BlasProblem& problem) {
  const auto kept = choices_.find(problem);
  if (kept != choices_.end()) return kept->second;
  BlasCall call;
  Preference preference;
  FO_RETURN_IF_ERROR(describe(problem, nullptr, call));
  FO_RETURN_IF_ERROR(preference.init(problem));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, &call.operation, &call.w, &call.x, &call.y, &call.y,
                                     preference.get(), 1, &result, &found);
  Choice choice;
  choice.found = status == CUBLAS_STATUS_SUCCESS && found > 0;
  if (choice.found) choice.algo = result.algo;
  choices_.emplace(problem, choice);
  return choice;
}

Status DenseLinear::multiply(cudaStream_t stream, void* workspace, const BlasProblem& problem,
                             const cublasLtMatmulAlgo_t& algo, const void* x,
                             const LinearWeight& weight, const void* bias, void* y) {
  BlasCall call;
  FO_RETURN_IF_ERROR(describe(problem, bias, call));
  const float one = 1.f;
  const float before = problem.accumulate ? 1.f : 0.f;
  return blas_status(
      cublasLtMatmul(handle_, &call.operation, &one, weight.data, &call.w, x, &call.x, &before, y,
                     &call.y, y, &call.y, &algo, workspace, kBlasBytes, stream),
      "launching a linear layer of cuBLASLt");
}

Status DenseLinear::run(cudaStream_t stream, void* workspace, const LinearParams& params,
                        const LinearWeight& weight) {
  const TensorView x = batched(params.x);
  const TensorView residual = batched(params.residual);
  TensorView out = batched(params.out);
  if (x.numel() == 0) return ok_status();
  if (x.size(1) <= kFewRows || x.dtype != weight.dtype) return run_plain(stream, params, weight);

  const Parts parts(params, weight.out_features);
  char* base = reinterpret_cast<char*>(align(reinterpret_cast<uintptr_t>(workspace)));
  // Where y goes: to the caller, onto the residual, or to the workspace on the way there.
  const bool onto_residual = !out && !params.gate && params.activation == Activation::kNone &&
                             (residual.dtype == x.dtype || residual.dtype == DType::kF32);
  if (onto_residual) {
    out = residual;
  } else if (!out) {
    const DType dtype = residual.dtype == DType::kF32 ? DType::kF32 : x.dtype;
    out =
        TensorView::contiguous(base + parts.y, dtype, {x.size(0), x.size(1), weight.out_features});
  }
  if (out.dtype != x.dtype && out.dtype != DType::kF32) return run_plain(stream, params, weight);

  BlasProblem problem;
  problem.batch = x.size(0);
  problem.rows = x.size(1);
  problem.columns = weight.out_features;
  problem.depth = weight.in_features;
  problem.x_row = std::max(x.stride[1], problem.depth);
  problem.x_batch = x.stride[0];
  problem.y_row = std::max(out.stride[1], problem.columns);
  problem.y_batch = out.stride[0];
  if (problem.batch == 1 || (problem.x_batch == problem.rows * problem.x_row &&
                             problem.y_batch == problem.rows * problem.y_row)) {
    problem.rows *= problem.batch;
    problem.batch = 1;
    problem.x_batch = problem.y_batch = 0;
  }
  problem.x_dtype = x.dtype;
  problem.y_dtype = out.dtype;
  // The fused GELU is good to about 5e-6, which 16-bit outputs do not show and f32 ones do.
  const bool gelu = params.activation == Activation::kGeluTanh && out.dtype != DType::kF32;
  problem.epilogue = gelu ? CUBLASLT_EPILOGUE_GELU : CUBLASLT_EPILOGUE_DEFAULT;
  if (weight.bias) problem.epilogue = gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  problem.accumulate = onto_residual;
  problem.x_alignment = alignment_of(x.data);
  problem.w_alignment = alignment_of(weight.data);
  problem.y_alignment = alignment_of(out.data);

  const void* bias = out.dtype == DType::kF32 ? weight.bias : weight.narrow_bias;
  FO_ASSIGN_OR_RETURN(const Choice choice, choose(problem));
  if (!choice.found) return run_plain(stream, params, weight);
  FO_RETURN_IF_ERROR(multiply(stream, base, problem, choice.algo, x.data, weight, bias, out.data));
  if (params.activation != Activation::kNone && !gelu) {
    FO_RETURN_IF_ERROR(activation(stream, {.x = out, .activation = params.activation, .out = out}));
  }
  if (!residual || onto_residual) return ok_status();
  TaylorForecastParams add;
  add.factors[0] = out;
  add.residual = residual;
  add.gate = params.gate;
  return taylor_forecast(stream, add);
}

size_t linear_workspace_bytes(const LinearParams& params, int64_t out_features) {
  return Parts(params, out_features).bytes;
}

}  // namespace flashomni::cuda

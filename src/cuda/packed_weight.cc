// SPDX-License-Identifier: Apache-2.0
#include "cuda/packed_weight.h"

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "base/half.h"
#include "cuda/error.h"

namespace flashomni::cuda {
namespace {

constexpr size_t kAlignment = 256;

// The bias in f32 on the host, wherever it comes from.
Result<std::vector<float>> read_bias(const TensorView& bias) {
  const size_t count = static_cast<size_t>(bias.size(0));
  std::vector<float> values(count);
  if (bias.dtype == DType::kF32) {
    FO_CUDA(cudaMemcpy(values.data(), bias.data, bias.bytes(), cudaMemcpyDefault),
            "reading a bias");
    return values;
  }
  std::vector<uint16_t> bits(count);
  FO_CUDA(cudaMemcpy(bits.data(), bias.data, bias.bytes(), cudaMemcpyDefault), "reading a bias");
  for (size_t i = 0; i < count; ++i) {
    values[i] = bias.dtype == DType::kBF16 ? bf16_to_f32(bits[i]) : f16_to_f32(bits[i]);
  }
  return values;
}

}  // namespace

Result<std::shared_ptr<const PackedWeight>> CudaPackedWeight::pack(const WeightDesc& desc) {
  const TensorView& w = desc.weight;
  auto packed = std::make_shared<CudaPackedWeight>();
  packed->dtype_ = w.dtype;
  packed->out_ = w.size(0);
  packed->in_ = w.size(1);
  packed->head_dim_ = desc.out_head_dim;

  const size_t row_bytes = static_cast<size_t>(packed->in_) * dtype_bytes(w.dtype);
  const size_t rows = static_cast<size_t>(packed->out_);
  const size_t weight_bytes = static_cast<size_t>(packed->padded_rows()) * row_bytes;
  const size_t bias_at = (weight_bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t narrow_bias_at =
      bias_at + (rows * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  packed->bytes_ = desc.bias ? narrow_bias_at + rows * dtype_bytes(w.dtype) : bias_at;
  FO_ASSIGN_OR_RETURN(packed->memory_, allocate_device_memory(packed->bytes_, "packing a weight"));

  char* base = static_cast<char*>(packed->memory_.get());
  FO_CUDA(cudaMemset(base + rows * row_bytes, 0, packed->bytes_ - rows * row_bytes),
          "clearing the end of a weight");
  const size_t stride_bytes = static_cast<size_t>(w.stride[0]) * dtype_bytes(w.dtype);
  // One row may have any stride.
  FO_CUDA(cudaMemcpy2D(base, row_bytes, w.data, rows == 1 ? row_bytes : stride_bytes, row_bytes,
                       rows, cudaMemcpyDefault),
          "copying a weight");
  if (desc.bias) {
    FO_ASSIGN_OR_RETURN(const std::vector<float> bias, read_bias(desc.bias));
    packed->bias_ = reinterpret_cast<float*>(base + bias_at);
    FO_CUDA(cudaMemcpy(packed->bias_, bias.data(), rows * sizeof(float), cudaMemcpyHostToDevice),
            "copying a bias");
    if (w.dtype != DType::kF32) {
      std::vector<uint16_t> narrow(rows);
      for (size_t i = 0; i < rows; ++i) {
        narrow[i] = w.dtype == DType::kBF16 ? f32_to_bf16(bias[i]) : f32_to_f16(bias[i]);
      }
      packed->narrow_bias_ = base + narrow_bias_at;
      FO_CUDA(cudaMemcpy(packed->narrow_bias_, narrow.data(), rows * sizeof(uint16_t),
                         cudaMemcpyHostToDevice),
              "copying a bias");
    }
  }
  // Other streams may use the weight from here on.
  FO_CUDA(cudaDeviceSynchronize(), "packing a weight");
  return std::shared_ptr<const PackedWeight>(std::move(packed));
}

const CudaPackedWeight* cuda_weight(const PackedWeight* weight) {
  return dynamic_cast<const CudaPackedWeight*>(weight);
}

}  // namespace flashomni::cuda

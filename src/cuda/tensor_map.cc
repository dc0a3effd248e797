// SPDX-License-Identifier: Apache-2.0
#include "cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "cuda/error.h"

namespace flashomni::cuda {
namespace {

// Enough for every tensor of a large model; beyond it something makes new tensors every step.
constexpr size_t kMaxMaps = 4096;

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                 const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                 const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// Through the runtime, so that the program starts on machines without a driver.
Status find_encode_tiled(EncodeTiled& found) {
  if (found) return ok_status();
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  FO_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                           cudaEnableDefault, &result),
          "looking for cuTensorMapEncodeTiled");
  if (result != cudaDriverEntryPointSuccess || !entry) {
    return unsupported("this driver has no cuTensorMapEncodeTiled, wanted CUDA 12.0 or newer");
  }
  found = reinterpret_cast<EncodeTiled>(entry);
  return ok_status();
}

Result<CUtensorMapDataType> data_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::kF32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    default:
      return unsupported(std::string("no tensor map for ") + dtype_name(dtype));
  }
}

CUtensorMapSwizzle swizzle_of(TensorMapSwizzle swizzle) {
  switch (swizzle) {
    case TensorMapSwizzle::kNone:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
    case TensorMapSwizzle::k32B:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    case TensorMapSwizzle::k64B:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case TensorMapSwizzle::k128B:
      return CU_TENSOR_MAP_SWIZZLE_128B;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace

Result<CUtensorMap> TensorMapCache::get(const TensorMapDesc& desc) {
  const auto kept = maps_.find(desc);
  if (kept != maps_.end()) return kept->second;

  static EncodeTiled encode = nullptr;
  FO_RETURN_IF_ERROR(find_encode_tiled(encode));
  FO_ASSIGN_OR_RETURN(const CUtensorMapDataType type, data_type(desc.dtype));
  cuuint64_t size[TensorMapDesc::kMaxRank];
  cuuint64_t stride[TensorMapDesc::kMaxRank];
  cuuint32_t box[TensorMapDesc::kMaxRank];
  cuuint32_t step[TensorMapDesc::kMaxRank];
  std::string text = std::string(dtype_name(desc.dtype)) + " tensor map";
  for (int i = 0; i < desc.rank; ++i) {
    size[i] = static_cast<cuuint64_t>(desc.size[i]);
    stride[i] = static_cast<cuuint64_t>(desc.stride_bytes[i]);
    box[i] = static_cast<cuuint32_t>(desc.box[i]);
    step[i] = 1;
    text += " " + std::to_string(desc.size[i]) + "/" + std::to_string(desc.stride_bytes[i]) + "/" +
            std::to_string(desc.box[i]);
  }
  CUtensorMap map;
  const CUresult result =
      encode(&map, type, static_cast<cuuint32_t>(desc.rank), desc.data, size, stride + 1, box, step,
             CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(desc.swizzle),
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return Status(StatusCode::kDeviceError,
                  text + " (size/stride/box): driver error " + std::to_string(result));
  }
  if (maps_.size() >= kMaxMaps) maps_.clear();
  maps_.emplace(desc, map);
  return map;
}

}  // namespace flashomni::cuda

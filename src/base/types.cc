// SPDX-License-Identifier: Apache-2.0
#include "flashomni/types.h"

#include "flashomni/version.h"

namespace flashomni {

const char* version() {
  return FLASHOMNI_VERSION;
}

const char* dtype_name(DType t) {
  switch (t) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kU8:
      return "u8";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU64:
      return "u64";
    case DType::kF64:
      return "f64";
  }
  return "unknown";
}

std::string TensorView::to_string() const {
  std::string s = dtype_name(dtype);
  s += '[';
  for (int i = 0; i < rank; ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + ']';
}

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// Element types of safetensors, and tensors in words.
#include <algorithm>
#include <array>
#include <bit>

#include "io/messages.h"
#include "io/safetensors.h"

namespace flashomni {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensor data is little-endian and is read without swapping");

struct DTypeRow {
  StoredDType dtype;
  const char* name;
  int bits;
};

constexpr std::array kDTypes = {
    DTypeRow{StoredDType::kBool, "BOOL", 8},
    DTypeRow{StoredDType::kF4, "F4", 4},
    DTypeRow{StoredDType::kF6E2M3, "F6_E2M3", 6},
    DTypeRow{StoredDType::kF6E3M2, "F6_E3M2", 6},
    DTypeRow{StoredDType::kU8, "U8", 8},
    DTypeRow{StoredDType::kI8, "I8", 8},
    DTypeRow{StoredDType::kF8E5M2, "F8_E5M2", 8},
    DTypeRow{StoredDType::kF8E4M3, "F8_E4M3", 8},
    DTypeRow{StoredDType::kF8E8M0, "F8_E8M0", 8},
    DTypeRow{StoredDType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    DTypeRow{StoredDType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    DTypeRow{StoredDType::kI16, "I16", 16},
    DTypeRow{StoredDType::kU16, "U16", 16},
    DTypeRow{StoredDType::kF16, "F16", 16},
    DTypeRow{StoredDType::kBF16, "BF16", 16},
    DTypeRow{StoredDType::kI32, "I32", 32},
    DTypeRow{StoredDType::kU32, "U32", 32},
    DTypeRow{StoredDType::kF32, "F32", 32},
    DTypeRow{StoredDType::kC64, "C64", 64},
    DTypeRow{StoredDType::kF64, "F64", 64},
    DTypeRow{StoredDType::kI64, "I64", 64},
    DTypeRow{StoredDType::kU64, "U64", 64},
};

constexpr bool rows_in_enum_order() {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].dtype != static_cast<StoredDType>(i)) return false;
  }
  return true;
}
static_assert(rows_in_enum_order());

}  // namespace

int stored_dtype_bits(StoredDType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].bits;
}

const char* stored_dtype_name(StoredDType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].name;
}

std::optional<StoredDType> stored_dtype_from_name(std::string_view name) {
  const auto row = std::find_if(kDTypes.begin(), kDTypes.end(),
                                [&](const DTypeRow& r) { return name == r.name; });
  if (row == kDTypes.end()) return std::nullopt;
  return row->dtype;
}

std::optional<DType> to_dtype(StoredDType dtype) {
  for (const DType t : {DType::kF32, DType::kBF16, DType::kF16, DType::kU8, DType::kI32,
                        DType::kI64, DType::kU64, DType::kF64}) {
    if (to_stored_dtype(t) == dtype) return t;
  }
  return std::nullopt;
}

StoredDType to_stored_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredDType::kF32;
    case DType::kBF16:
      return StoredDType::kBF16;
    case DType::kF16:
      return StoredDType::kF16;
    case DType::kU8:
      return StoredDType::kU8;
    case DType::kI32:
      return StoredDType::kI32;
    case DType::kI64:
      return StoredDType::kI64;
    case DType::kU64:
      return StoredDType::kU64;
    case DType::kF64:
      return StoredDType::kF64;
  }
  return StoredDType::kU8;
}

int64_t TensorEntry::numel() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

std::string TensorEntry::to_string() const {
  std::string s = quote(name) + " " + stored_dtype_name(dtype) + "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

}  // namespace flashomni

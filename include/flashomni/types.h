// SPDX-License-Identifier: Apache-2.0
//
// Element types and the non-owning tensor view that every operation takes. A view never owns or
// frees its memory; whether the pointer is host or device memory is the backend's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace flashomni {

enum class DType : uint8_t {
  kF32 = 0,
  kBF16 = 1,
  kF16 = 2,
  kU8 = 3,
  kI32 = 4,
  kI64 = 5,
  kU64 = 6,
  kF64 = 7
};

// Bytes of one element.
constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
    case DType::kI64:
    case DType::kU64:
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
  }
  return 0;
}

// "f32", "bf16", ...
const char* dtype_name(DType t);

// A tensor of rank 0 to 4 that somebody else owns. Strides count elements, not bytes.
struct TensorView {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  int64_t shape[kMaxRank] = {0, 0, 0, 0};
  int64_t stride[kMaxRank] = {0, 0, 0, 0};

  // Dense row-major view. REQUIRES: dims.size() <= 4.
  static TensorView contiguous(void* data, DType dtype, std::initializer_list<int64_t> dims) {
    TensorView v;
    v.data = data;
    v.dtype = dtype;
    v.rank = static_cast<int>(dims.size());
    int i = 0;
    for (int64_t d : dims) v.shape[i++] = d;
    int64_t s = 1;
    for (i = v.rank - 1; i >= 0; --i) {
      v.stride[i] = s;
      s *= v.shape[i];
    }
    return v;
  }

  explicit operator bool() const { return data != nullptr; }
  int64_t size(int i) const { return shape[i]; }

  int64_t numel() const {
    int64_t n = rank ? 1 : 0;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(numel()) * dtype_bytes(dtype); }

  bool is_contiguous() const {
    int64_t s = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != s) return false;
      s *= shape[i];
    }
    return true;
  }

  // The half-open range [begin, end) of dimension `dim`.
  TensorView slice(int dim, int64_t begin, int64_t end) const {
    TensorView v = *this;
    v.data =
        static_cast<char*>(data) + static_cast<int64_t>(dtype_bytes(dtype)) * begin * stride[dim];
    v.shape[dim] = end - begin;
    return v;
  }

  // Pointer to the first element. REQUIRES: T matches dtype.
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  // "f32[1,1088,6,64]" for messages.
  std::string to_string() const;
};

}  // namespace flashomni

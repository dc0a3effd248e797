// SPDX-License-Identifier: Apache-2.0
//
// The values of a tensor: its bytes as they are stored, and as f32.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/half.h"
#include "io/safetensors.h"

namespace flashomni {
namespace {

// Copies value by value: the source has no alignment.
template <class T, class Convert>
void convert(const uint8_t* src, std::span<float> out, Convert to_float) {
  for (float& value : out) {
    T stored;
    std::memcpy(&stored, src, sizeof(T));
    src += sizeof(T);
    value = to_float(stored);
  }
}

void convert(StoredDType dtype, const uint8_t* src, std::span<float> out) {
  switch (dtype) {
    case StoredDType::kF16:
      return convert<uint16_t>(src, out, f16_to_f32);
    case StoredDType::kBF16:
      return convert<uint16_t>(src, out, bf16_to_f32);
    case StoredDType::kF64:
      return convert<double>(src, out, [](double v) { return static_cast<float>(v); });
    default:
      if (!out.empty()) std::memcpy(out.data(), src, out.size_bytes());
  }
}

Status check_float(const TensorEntry& entry) {
  switch (entry.dtype) {
    case StoredDType::kF32:
    case StoredDType::kF16:
    case StoredDType::kBF16:
    case StoredDType::kF64:
      return ok_status();
    case StoredDType::kF4:
    case StoredDType::kF6E2M3:
    case StoredDType::kF6E3M2:
    case StoredDType::kF8E5M2:
    case StoredDType::kF8E4M3:
    case StoredDType::kF8E8M0:
    case StoredDType::kF8E4M3Fnuz:
    case StoredDType::kF8E5M2Fnuz:
      return unsupported("tensor " + entry.to_string() +
                         " is quantised; wanted F32, F16, BF16 or F64 weights");
    default:
      return unsupported("tensor " + entry.to_string() + " has no float values; wanted F32, F16, " +
                         "BF16 or F64");
  }
}

// Bytes [begin, begin + out.size()) of the tensor.
Status read_part(const TensorEntry& entry, uint64_t begin, std::span<uint8_t> out) {
  if (out.empty()) return ok_status();
  if (entry.file) return entry.file->read(entry.offset + begin, out);
  std::memcpy(out.data(), entry.data + begin, out.size());
  return ok_status();
}

}  // namespace

Status read_tensor(const TensorEntry& entry, std::span<uint8_t> out) {
  if (out.size() != entry.bytes) {
    return invalid_argument("tensor " + entry.to_string() + " read into " +
                            std::to_string(out.size()) + " bytes, it has " +
                            std::to_string(entry.bytes));
  }
  return read_part(entry, 0, out);
}

Result<std::vector<uint8_t>> read_tensor(const TensorEntry& entry) {
  std::vector<uint8_t> bytes(entry.bytes);  // operator new aligns for every element type
  FO_RETURN_IF_ERROR(read_tensor(entry, bytes));
  return bytes;
}

Status to_f32(const TensorEntry& entry, std::span<float> out) {
  if (out.size() != static_cast<size_t>(entry.numel())) {
    return invalid_argument("tensor " + entry.to_string() + " read into " +
                            std::to_string(out.size()) + " values, it has " +
                            std::to_string(entry.numel()));
  }
  FO_RETURN_IF_ERROR(check_float(entry));
  const auto value_bytes = static_cast<size_t>(stored_dtype_bits(entry.dtype) / 8);
  std::array<uint8_t, size_t{64} << 10> piece;
  const size_t values_per_piece = piece.size() / value_bytes;
  for (size_t i = 0; i < out.size(); i += values_per_piece) {
    const std::span<float> values = out.subspan(i, std::min(values_per_piece, out.size() - i));
    const std::span<uint8_t> stored = std::span(piece).first(values.size() * value_bytes);
    FO_RETURN_IF_ERROR(read_part(entry, i * value_bytes, stored));
    convert(entry.dtype, stored.data(), values);
  }
  return ok_status();
}

Result<std::vector<float>> to_f32(const TensorEntry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  FO_RETURN_IF_ERROR(to_f32(entry, values));
  return values;
}

}  // namespace flashomni

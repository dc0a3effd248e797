// SPDX-License-Identifier: Apache-2.0
//
// safetensors files (huggingface/safetensors, format description in its README): reading tensor by
// tensor, with every check that the reference reader makes and the stricter ones the format text
// asks for, and writing.
//
// File: u64 header length N, little-endian | N bytes of JSON | data. The JSON maps tensor names to
// {"dtype", "shape", "data_offsets": [begin, end)} relative to the data, and "__metadata__" to an
// object of strings. Data is little-endian, row-major, without holes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"
#include "flashomni/types.h"
#include "io/input_file.h"

namespace flashomni {

// Element types of the format, in its own order.
enum class StoredDType : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

int stored_dtype_bits(StoredDType dtype);
const char* stored_dtype_name(StoredDType dtype);  // as in the file: "BF16"
std::optional<StoredDType> stored_dtype_from_name(std::string_view name);
// The types that both sides have.
std::optional<DType> to_dtype(StoredDType dtype);
StoredDType to_stored_dtype(DType dtype);

// A tensor in a file, or in memory.
struct TensorEntry {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<int64_t> shape;     // empty: a scalar
  const uint8_t* data = nullptr;  // its values where they are in memory, at any alignment; or null,
  std::shared_ptr<const InputFile> file;  // and they are here
  uint64_t offset = 0;                    // from this byte on
  size_t bytes = 0;

  int64_t numel() const;
  std::string to_string() const;  // "'name' F32[2,3]" for messages
};

// Limits beyond those of the format.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;
inline constexpr size_t kMaxTensorRank = 8;
inline constexpr size_t kMaxTensorName = size_t{64} << 10;
inline constexpr int64_t kMaxTensorDim = int64_t{1} << 48;

// A file whose every length and offset has been checked against the file; of the data nothing has
// been read. Entries live as long as the object, also when it is moved.
class SafetensorsFile {
 public:
  // kCorruptFile unless the file is exactly what its header says; O(n log n) in the header's size.
  static Result<SafetensorsFile> open(const std::string& path);

  // nullptr if there is none.
  const TensorEntry* find(std::string_view name) const;
  std::span<const TensorEntry> tensors() const { return tensors_; }  // sorted by name
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_->path(); }
  uint64_t file_bytes() const { return file_->size(); }
  // See InputFile: whether the file still has its size.
  Status check_unchanged() const { return file_->check_unchanged(); }

 private:
  explicit SafetensorsFile(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {}

  std::shared_ptr<const InputFile> file_;
  std::vector<TensorEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

// The stored bytes, wherever they are; `out` must have entry.bytes of them. kCorruptFile when the
// file has become shorter since it was opened.
Status read_tensor(const TensorEntry& entry, std::span<uint8_t> out);
// The same, aligned for every element type.
Result<std::vector<uint8_t>> read_tensor(const TensorEntry& entry);

// Values of an F32, F16, BF16 or F64 tensor as f32 (F64 rounds). Other types are kUnsupported, with
// the tensor's name; `out` must have numel() elements. Reads in pieces: nothing of the tensor's
// size but `out` is allocated.
Status to_f32(const TensorEntry& entry, std::span<float> out);
Result<std::vector<float>> to_f32(const TensorEntry& entry);

struct TensorToWrite {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<int64_t> shape;
  std::span<const uint8_t> data;
};

// Writes a file that every reader accepts: tensors ordered by element size, largest first, then by
// name, and the header padded so that each starts aligned to its element. Whole or not at all.
// kInvalidArgument, before anything is written, for what SafetensorsFile::open would refuse.
Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata = {});

}  // namespace flashomni

// SPDX-License-Identifier: Apache-2.0
//
// NumPy's .npz files (numpy.lib.format, versions 1.0 to 3.0): a ZIP archive of .npy arrays. Arrays
// of little-endian numbers in C order are read and written; others (texts, objects, structures,
// big-endian) are listed with their type only.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace flashomni {

// The header of one .npy array.
struct NpyHeader {
  std::string type;                  // numpy's descr: "<i4"
  std::optional<StoredDType> dtype;  // none: a type that is not read here
  std::vector<int64_t> shape;        // empty: a scalar
  size_t data_offset = 0;            // of the values in the array's bytes
};

// kCorruptFile for what NumPy would not read; kUnsupported for Fortran order. `who` starts
// messages.
Result<NpyHeader> parse_npy_header(std::span<const uint8_t> bytes, const std::string& who);

// A whole file in memory; move-only.
class NpzFile {
 public:
  static Result<NpzFile> open(const std::string& path);
  static Result<NpzFile> parse(std::span<const uint8_t> bytes, const std::string& path);
  NpzFile(NpzFile&&) = default;
  NpzFile& operator=(NpzFile&&) = default;

  const std::string& path() const { return path_; }
  std::span<const TensorEntry> tensors() const { return tensors_; }  // sorted by name
  // Names and types of the arrays that are not read.
  const std::map<std::string, std::string>& others() const { return others_; }

 private:
  explicit NpzFile(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::vector<std::vector<uint8_t>> storage_;  // tensors_ point into it
  std::vector<TensorEntry> tensors_;
  std::map<std::string, std::string> others_;
};

// Whether the file at `path` starts as a ZIP archive does.
bool is_npz(const std::string& path);

// Writes an uncompressed file that numpy.load reads. Whole or not at all. kInvalidArgument for
// names that are no array names, for types that NumPy lacks and for 4 GiB or more.
Status write_npz(const std::string& path, std::span<const TensorToWrite> tensors);

}  // namespace flashomni

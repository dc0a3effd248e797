// SPDX-License-Identifier: Apache-2.0
//
// Backend memory between sentinels. Everything around the payload is 0xff bytes, which read as NaN
// in every float type: a write outside is seen afterwards, a read outside poisons the result.
// Works the same for host and device memory, since it only uploads and downloads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/backend.h"
#include "tests/testkit/compare.h"

namespace flashomni::testkit {

class GuardBuffer {
 public:
  GuardBuffer() = default;
  // `bytes` of 0xff payload that start `misalign` bytes after a 64-byte boundary.
  GuardBuffer(Backend& backend, size_t bytes, size_t misalign = 0);

  void* data() const { return static_cast<char*>(buffer_->data()) + start_; }
  size_t bytes() const { return bytes_; }
  // All of the payload; `source` holds bytes().
  void write(const void* source);
  std::vector<uint8_t> read() const;
  // Empty while the sentinels are intact, else where they are not.
  std::string damage() const;

 private:
  Backend* backend_ = nullptr;
  std::unique_ptr<Buffer> buffer_;
  size_t start_ = 0;
  size_t bytes_ = 0;
};

// How a tensor lies in memory.
struct Placement {
  int offset = 0;  // elements between a 64-byte boundary and the first one
  int pad = 0;     // unused elements at the end of every row, of every row of rows, and so on
};

// A tensor in guarded memory, of any element type, seen by the test as doubles. Starts untouched:
// every element is a NaN (or, for integers, a pattern) that no operation produces.
class GuardTensor {
 public:
  GuardTensor() = default;  // an absent tensor
  GuardTensor(Backend& backend, DType dtype, std::vector<int64_t> shape, Placement placement = {});
  // The same, holding `values` rounded to dtype.
  GuardTensor(Backend& backend, DType dtype, std::vector<int64_t> shape,
              const std::vector<double>& values, Placement placement = {});

  TensorView view() const { return view_; }
  explicit operator bool() const { return static_cast<bool>(view_); }

  void write(const std::vector<double>& values);
  Output read() const;  // no elements if absent
  // Empty while the sentinels and the gaps between strided rows are intact.
  std::string damage() const;

 private:
  void write_bits(const std::vector<uint64_t>& bits);
  uint64_t untouched_bits() const;

  std::vector<int64_t> shape_;
  std::vector<int64_t> offsets_;  // of every element in row-major order, in elements
  TensorView view_;
  GuardBuffer buffer_;
};

}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
#include "tests/testkit/guard_buffer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <utility>

#include "base/half.h"

namespace flashomni::testkit {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr uint8_t kSentinel = 0xff;

uint64_t encode(DType dtype, double value) {
  const float f = static_cast<float>(value);
  switch (dtype) {
    case DType::kF32:
      return std::bit_cast<uint32_t>(f);
    case DType::kBF16:
      return f32_to_bf16(f);
    case DType::kF16:
      return f32_to_f16(f);
    case DType::kF64:
      return std::bit_cast<uint64_t>(value);
    case DType::kU8:
    case DType::kI32:
    case DType::kI64:
    case DType::kU64:
      return static_cast<uint64_t>(static_cast<int64_t>(value));
  }
  return 0;
}

double decode(DType dtype, uint64_t bits) {
  switch (dtype) {
    case DType::kF32:
      return std::bit_cast<float>(static_cast<uint32_t>(bits));
    case DType::kBF16:
      return bf16_to_f32(static_cast<uint16_t>(bits));
    case DType::kF16:
      return f16_to_f32(static_cast<uint16_t>(bits));
    case DType::kF64:
      return std::bit_cast<double>(bits);
    case DType::kI32:
      return static_cast<int32_t>(bits);
    case DType::kU8:
    case DType::kI64:
    case DType::kU64:
      return static_cast<double>(static_cast<int64_t>(bits));
  }
  return 0;
}

}  // namespace

GuardBuffer::GuardBuffer(Backend& backend, size_t bytes, size_t misalign)
    : backend_(&backend), bytes_(bytes) {
  const size_t total = bytes + 2 * kGuardBytes + 64 + misalign;
  auto buffer = backend.allocate(total);
  EXPECT_TRUE(buffer.ok()) << buffer.status().to_string();
  buffer_ = std::move(buffer).value();
  const size_t past = (reinterpret_cast<uintptr_t>(buffer_->data()) + kGuardBytes) % 64;
  start_ = kGuardBytes + (64 - past) % 64 + misalign;
  const std::vector<uint8_t> image(total, kSentinel);
  EXPECT_TRUE(backend.upload({}, buffer_->data(), image.data(), total).ok());
}

void GuardBuffer::write(const void* source) {
  if (bytes_ == 0) return;
  EXPECT_TRUE(backend_->upload({}, data(), source, bytes_).ok());
}

std::vector<uint8_t> GuardBuffer::read() const {
  std::vector<uint8_t> payload(bytes_);
  if (bytes_ == 0) return payload;
  EXPECT_TRUE(backend_->download({}, payload.data(), data(), bytes_).ok());
  return payload;
}

std::string GuardBuffer::damage() const {
  if (!buffer_) return {};
  std::vector<uint8_t> image(buffer_->bytes());
  EXPECT_TRUE(backend_->download({}, image.data(), buffer_->data(), image.size()).ok());
  for (size_t i = 0; i < image.size(); ++i) {
    if (i >= start_ && i < start_ + bytes_) continue;
    if (image[i] == kSentinel) continue;
    const int64_t at = static_cast<int64_t>(i) - static_cast<int64_t>(start_);
    return "byte " + std::to_string(at) + " of a buffer of " + std::to_string(bytes_) +
           " bytes was written";
  }
  return {};
}

GuardTensor::GuardTensor(Backend& backend, DType dtype, std::vector<int64_t> shape,
                         Placement placement)
    : shape_(std::move(shape)) {
  view_.dtype = dtype;
  view_.rank = static_cast<int>(shape_.size());
  int64_t stride = 1;
  int64_t extent = 1;  // elements from the first to the last one
  for (int i = view_.rank - 1; i >= 0; --i) {
    view_.shape[i] = shape_[i];
    view_.stride[i] = stride;
    extent += (shape_[i] - 1) * stride;
    stride = stride * shape_[i] + placement.pad;
  }
  offsets_.resize(static_cast<size_t>(view_.numel()));
  for (size_t n = 0; n < offsets_.size(); ++n) {
    int64_t rest = static_cast<int64_t>(n);
    for (int i = view_.rank - 1; i >= 0; --i) {
      offsets_[n] += rest % shape_[i] * view_.stride[i];
      rest /= shape_[i];
    }
  }
  const size_t width = dtype_bytes(dtype);
  buffer_ = GuardBuffer(backend, static_cast<size_t>(extent) * width,
                        static_cast<size_t>(placement.offset) * width);
  view_.data = buffer_.data();
  write_bits(std::vector<uint64_t>(offsets_.size(), untouched_bits()));
}

GuardTensor::GuardTensor(Backend& backend, DType dtype, std::vector<int64_t> shape,
                         const std::vector<double>& values, Placement placement)
    : GuardTensor(backend, dtype, std::move(shape), placement) {
  write(values);
}

uint64_t GuardTensor::untouched_bits() const {
  switch (view_.dtype) {
    case DType::kF32:
      return 0x7fc5a5a5;
    case DType::kBF16:
      return 0x7fc5;
    case DType::kF16:
      return 0x7e25;
    case DType::kF64:
      return 0x7ff8a5a5a5a5a5a5;
    case DType::kU8:
      return 0xa5;
    case DType::kI32:
      return 0xa5a5a5a5;
    case DType::kI64:
    case DType::kU64:
      return 0xa5a5a5a5a5a5a5a5;
  }
  return 0;
}

void GuardTensor::write_bits(const std::vector<uint64_t>& bits) {
  std::vector<uint8_t> image = buffer_.read();
  const size_t width = dtype_bytes(view_.dtype);
  for (size_t n = 0; n < offsets_.size(); ++n) {  // little-endian, as every supported machine is
    std::memcpy(&image[static_cast<size_t>(offsets_[n]) * width], &bits[n], width);
  }
  buffer_.write(image.data());
}

void GuardTensor::write(const std::vector<double>& values) {
  ASSERT_EQ(values.size(), offsets_.size()) << view_.to_string();
  std::vector<uint64_t> bits(values.size());
  for (size_t n = 0; n < bits.size(); ++n) bits[n] = encode(view_.dtype, values[n]);
  write_bits(bits);
}

Output GuardTensor::read() const {
  if (!view_) return {};
  const std::vector<uint8_t> image = buffer_.read();
  const size_t width = dtype_bytes(view_.dtype);
  Output output;
  output.shape = shape_;
  output.untouched_bits = untouched_bits();
  for (int64_t offset : offsets_) {
    uint64_t bits = 0;
    std::memcpy(&bits, &image[static_cast<size_t>(offset) * width], width);
    output.bits.push_back(bits);
    output.values.push_back(decode(view_.dtype, bits));
  }
  return output;
}

std::string GuardTensor::damage() const {
  if (!view_) return {};
  if (std::string outside = buffer_.damage(); !outside.empty()) {
    return view_.to_string() + ": " + outside;
  }
  std::vector<uint8_t> image = buffer_.read();
  const size_t width = dtype_bytes(view_.dtype);
  for (int64_t offset : offsets_) {
    std::memset(&image[static_cast<size_t>(offset) * width], kSentinel, width);
  }
  for (size_t i = 0; i < image.size(); ++i) {
    if (image[i] != kSentinel) {
      return view_.to_string() + ": byte " + std::to_string(i) + ", between two rows, was written";
    }
  }
  return {};
}

}  // namespace flashomni::testkit

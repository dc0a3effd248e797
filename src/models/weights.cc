// SPDX-License-Identifier: Apache-2.0
#include "models/weights.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"

namespace flashomni {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

// Index of the first NaN or infinity, or -1.
template <class T>
int64_t find_non_finite(const uint8_t* data, int64_t count, T exponent_mask) {
  for (int64_t i = 0; i < count; ++i) {
    T bits;
    std::memcpy(&bits, data + size_t(i) * sizeof(T), sizeof(T));
    if ((bits & exponent_mask) == exponent_mask) return i;
  }
  return -1;
}

Status check_finite(const TensorEntry& e) {
  const int64_t numel = e.numel();
  int64_t bad = -1;
  switch (e.dtype) {
    case StoredDType::kF32:
      bad = find_non_finite<uint32_t>(e.data, numel, 0x7f800000u);
      break;
    case StoredDType::kF16:
      bad = find_non_finite<uint16_t>(e.data, numel, uint16_t{0x7c00});
      break;
    case StoredDType::kBF16:
      bad = find_non_finite<uint16_t>(e.data, numel, uint16_t{0x7f80});
      break;
    default:
      return unsupported("tensor " + e.to_string() +
                         " has a dtype that cannot be loaded, wanted "
                         "F32, F16 or BF16");
  }
  if (bad < 0) return ok_status();
  return corrupt_file("tensor " + e.name + " holds a NaN or infinity at element " +
                      std::to_string(bad));
}

TensorView entry_view(const TensorEntry& e, std::initializer_list<int64_t> dims) {
  const DType dtype = *to_dtype(e.dtype);  // check_finite let floats only through
  return TensorView::contiguous(const_cast<uint8_t*>(e.data), dtype, dims);
}

// Refuses what the range of f16 does not hold.
Status to_16_bits(const TensorEntry& e, DType dtype, std::vector<uint16_t>& out) {
  FO_ASSIGN_OR_RETURN(const std::vector<float> values, to_f32(e));
  out.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    out[i] = dtype == DType::kBF16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    if (dtype == DType::kF16 && (out[i] & 0x7c00) == 0x7c00) {
      return unsupported("tensor " + e.to_string() + " holds " + std::to_string(values[i]) +
                         ", more than f16 can");
    }
  }
  return ok_status();
}

}  // namespace

int64_t Parameter::numel() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

Result<WeightLoader::Taken> WeightLoader::take(const std::string& name,
                                               const std::vector<int64_t>& shape) {
  if (list_) {
    list_->push_back({name, shape});
    return Taken{};
  }
  Taken t;
  if (random_) {
    t.entry = random_->make(name, shape, t.values);
  } else {
    const TensorEntry* e = store_->find(name);
    if (!e) return not_found("the checkpoint has no tensor " + name);
    if (e->shape != shape) {
      return corrupt_file("tensor " + name + " has shape " + shape_text(e->shape) + ", wanted " +
                          shape_text(shape));
    }
    t.entry = *e;
    FO_ASSIGN_OR_RETURN(t.values, read_tensor(*e));
    t.entry.file.reset();
    t.entry.data = t.values.data();
    FO_RETURN_IF_ERROR(check_finite(t.entry));
  }
  taken_.insert(name);
  parameters_ += t.entry.numel();
  return t;
}

Result<Weight> WeightLoader::linear(const std::string& name, int64_t out, int64_t in,
                                    int out_head_dim, const std::vector<int64_t>& stored) {
  const std::vector<int64_t> shape = stored.empty() ? std::vector<int64_t>{out, in} : stored;
  FO_ASSIGN_OR_RETURN(const Taken w, take(name + ".weight", shape));
  FO_ASSIGN_OR_RETURN(const Taken b, take(name + ".bias", {out}));
  if (list_) return Weight{};
  TensorView weight = entry_view(w.entry, {out, in});
  std::vector<uint16_t> narrow;
  const DType dtype = backend_.activation_dtype();
  if (dtype != DType::kF32 && weight.dtype != dtype) {
    FO_RETURN_IF_ERROR(to_16_bits(w.entry, dtype, narrow));
    weight = TensorView::contiguous(narrow.data(), dtype, {out, in});
  }
  FO_ASSIGN_OR_RETURN(Weight packed, backend_.pack_weight({.weight = weight,
                                                           .bias = entry_view(b.entry, {out}),
                                                           .out_head_dim = out_head_dim}));
  packed_bytes_ += packed->bytes();
  return packed;
}

Result<Weight> WeightLoader::linear_rows(const std::string& name, int64_t in,
                                         const std::vector<int64_t>& rows) {
  const auto out = static_cast<int64_t>(rows.size());
  FO_ASSIGN_OR_RETURN(const std::vector<float> weight, host(name + ".weight", {out, in}));
  FO_ASSIGN_OR_RETURN(const std::vector<float> bias, host(name + ".bias", {out}));
  if (list_) return Weight{};
  std::vector<float> w(weight.size()), b(bias.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto from = weight.begin() + rows[i] * in;
    std::copy(from, from + in, w.begin() + static_cast<std::ptrdiff_t>(i) * in);
    b[i] = bias[size_t(rows[i])];
  }
  FO_ASSIGN_OR_RETURN(
      Weight packed,
      backend_.pack_weight({.weight = TensorView::contiguous(w.data(), DType::kF32, {out, in}),
                            .bias = TensorView::contiguous(b.data(), DType::kF32, {out})}));
  packed_bytes_ += packed->bytes();
  return packed;
}

Result<std::vector<float>> WeightLoader::host(const std::string& name,
                                              const std::vector<int64_t>& shape) {
  FO_ASSIGN_OR_RETURN(const Taken t, take(name, shape));
  if (list_) return std::vector<float>(size_t(list_->back().numel()));
  return to_f32(t.entry);
}

Result<Tensor> WeightLoader::vector(const std::string& name, int64_t size) {
  FO_ASSIGN_OR_RETURN(std::vector<float> values, host(name, {size}));
  return Tensor::upload(backend_, values, {size});
}

std::vector<std::string> WeightLoader::unused() const {
  std::vector<std::string> out;
  if (!store_) return out;
  for (const TensorEntry* e : store_->tensors()) {
    if (!taken_.count(e->name)) out.push_back(e->name);
  }
  return out;
}

}  // namespace flashomni

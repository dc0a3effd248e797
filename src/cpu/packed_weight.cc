// SPDX-License-Identifier: Apache-2.0
#include "cpu/packed_weight.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/half.h"
#include "cpu/checks.h"

namespace flashomni::cpu {
namespace {

// dst[k][j] = src[j][k] for `cols` <= panel columns; the other columns of the panel stay zero.
template <class T>
void pack_panel(const T* src, int64_t stride, int64_t cols, int64_t in, int64_t panel, T* dst) {
  // Square tiles, so that both the strided reads and the writes stay within a few cache lines.
  constexpr int64_t kTile = 16;
  for (int64_t k0 = 0; k0 < in; k0 += kTile) {
    const int64_t k1 = std::min(in, k0 + kTile);
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t k = k0; k < k1; ++k) dst[k * panel + j] = src[j * stride + k];
    }
  }
}

// The same as pairs of bf16: dst[k / 2][j][k % 2] = src[j][k].
void pack_pairs(const KernelTable& kernels, DType dtype, const char* src, int64_t stride,
                int64_t cols, int64_t in, int64_t panel, uint16_t* dst) {
  constexpr int64_t kStretch = 256;
  float wide[kStretch];
  for (int64_t j = 0; j < cols; ++j) {
    for (int64_t k0 = 0; k0 < in; k0 += kStretch) {
      const int64_t count = std::min(kStretch, in - k0);
      kernels.to_f32(dtype, src + static_cast<size_t>(j * stride + k0) * dtype_bytes(dtype), wide,
                     count);
      for (int64_t k = 0; k < count; ++k) {
        dst[((k0 + k) / 2 * panel + j) * 2 + (k0 + k) % 2] = f32_to_bf16(wide[k]);
      }
    }
  }
}

}  // namespace

Result<std::shared_ptr<const PackedWeight>> CpuPackedWeight::pack(const Context& context,
                                                                  const WeightDesc& desc) {
  FO_RETURN_IF_ERROR(check_weight_desc(desc));
  const TensorView& w = desc.weight;
  auto packed = std::make_shared<CpuPackedWeight>();
  const int64_t panel = context.kernels.panel;
  packed->kernels_ = &context.kernels;
  const bool pairs = context.kernels.products == DType::kBF16;
  packed->dtype_ = pairs ? DType::kBF16 : w.dtype;
  packed->out_ = w.size(0);
  packed->in_ = w.size(1);
  // One stretch more: the last of a head may begin anywhere and meets zeros behind the panel.
  packed->stored_in_ =
      pairs ? (ceil_div(packed->in_, kFeatureTile) + 1) * kFeatureTile : packed->in_;
  packed->group_size_ = desc.out_head_dim > 0 ? desc.out_head_dim : w.size(0);
  packed->panels_per_group_ = ceil_div(packed->group_size_, panel);

  const int64_t num_panels = packed->num_panels();
  const size_t element = dtype_bytes(w.dtype);
  const auto panel_bytes = static_cast<size_t>(packed->row_bytes(packed->stored_in_));
  const size_t panels_bytes = align_up(static_cast<size_t>(num_panels) * panel_bytes);
  packed->bytes_ = panels_bytes + float_bytes(num_panels * panel);
  packed->memory_ = allocate_memory(packed->bytes_);
  if (!packed->memory_) {
    return out_of_memory("packing a weight needs " + std::to_string(packed->bytes_) + " bytes");
  }
  std::memset(packed->memory_.get(), 0, packed->bytes_);
  packed->panels_ = static_cast<char*>(packed->memory_.get());
  packed->bias_ = reinterpret_cast<float*>(packed->panels_ + panels_bytes);

  context.pool.run(num_panels, [&](int64_t p, int) {
    const int64_t group = p / packed->panels_per_group_;
    const int64_t within = p % packed->panels_per_group_ * panel;
    const int64_t first = group * packed->group_size_ + within;
    const int64_t cols = std::min(panel, packed->group_size_ - within);
    char* dst = packed->panels_ + static_cast<size_t>(p) * panel_bytes;
    const char* src =
        static_cast<const char*>(w.data) + static_cast<size_t>(first * w.stride[0]) * element;
    if (pairs) {
      pack_pairs(context.kernels, w.dtype, src, w.stride[0], cols, packed->in_, panel,
                 reinterpret_cast<uint16_t*>(dst));
    } else if (w.dtype == DType::kF32) {
      pack_panel(reinterpret_cast<const float*>(src), w.stride[0], cols, packed->in_, panel,
                 reinterpret_cast<float*>(dst));
    } else {
      pack_panel(reinterpret_cast<const uint16_t*>(src), w.stride[0], cols, packed->in_, panel,
                 reinterpret_cast<uint16_t*>(dst));
    }
    if (desc.bias) {
      const char* bias = static_cast<const char*>(desc.bias.data) +
                         static_cast<size_t>(first) * dtype_bytes(desc.bias.dtype);
      context.kernels.to_f32(desc.bias.dtype, bias, packed->bias_ + p * panel, cols);
    }
  });
  return std::shared_ptr<const PackedWeight>(std::move(packed));
}

const float* CpuPackedWeight::rows(int64_t panel_index, int64_t k, int64_t count,
                                   float* scratch) const {
  const char* src = stored(panel_index, k);
  if (dtype_ == kernels_->products) return reinterpret_cast<const float*>(src);
  kernels_->to_f32(dtype_, src, scratch, count * kernels_->panel);
  return scratch;
}

const CpuPackedWeight* cpu_weight(const PackedWeight* weight) {
  return dynamic_cast<const CpuPackedWeight*>(weight);
}

}  // namespace flashomni::cpu

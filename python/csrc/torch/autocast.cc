// SPDX-License-Identifier: Apache-2.0
//
// What happens under torch.autocast: floating-point inputs of attention and the projections are
// cast to autocast's type, as torch does for its own attention and Linear layers. On the CPU the
// projections compute in f32, so there they get f32.
#include <ATen/autocast_mode.h>

#include "python/csrc/torch/seam.h"

namespace flashomni::python {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

template <class F>
auto without_autocast(c10::DeviceType device, F&& call) {
  const c10::impl::ExcludeDispatchKeyGuard guard(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  return call();
}

auto op_for(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

template <c10::DeviceType device>
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptTensor& c,
                 const OptTensor& s, const OptTensor& plan, int64_t block_q, int64_t block_kv,
                 bool every_row, double scale, const OptTensor& cached) {
  using Signature =
      Tensor(const Tensor&, const Tensor&, const Tensor&, const OptTensor&, const OptTensor&,
             const OptTensor&, int64_t, int64_t, bool, double, const OptTensor&);
  static const auto op = op_for("flashomni::attention").typed<Signature>();
  const at::ScalarType type = at::autocast::get_autocast_dtype(device);
  return without_autocast(device, [&] {
    return op.call(at::autocast::cached_cast(type, q, device),
                   at::autocast::cached_cast(type, k, device),
                   at::autocast::cached_cast(type, v, device), c, s, plan, block_q, block_kv,
                   every_row, scale, at::autocast::cached_cast(type, cached, device));
  });
}

at::ScalarType projection_type(c10::DeviceType device) {
  return device == c10::kCPU ? at::kFloat : at::autocast::get_autocast_dtype(device);
}

template <c10::DeviceType device>
Tensor gemm_q(const Tensor& x, int64_t weight, int64_t heads, int64_t head_dim,
              const OptTensor& rms_weight, double rms_eps, const OptTensor& cos,
              const OptTensor& sin, const OptTensor& c, const OptTensor& s, const OptTensor& plan,
              int64_t block_q, int64_t block_kv, bool every_row, int64_t tokens,
              int64_t token_offset) {
  using Signature = Tensor(const Tensor&, int64_t, int64_t, int64_t, const OptTensor&, double,
                           const OptTensor&, const OptTensor&, const OptTensor&, const OptTensor&,
                           const OptTensor&, int64_t, int64_t, bool, int64_t, int64_t);
  static const auto op = op_for("flashomni::gemm_q").typed<Signature>();
  return without_autocast(device, [&] {
    return op.call(at::autocast::cached_cast(projection_type(device), x, device), weight, heads,
                   head_dim, rms_weight, rms_eps, cos, sin, c, s, plan, block_q, block_kv,
                   every_row, tokens, token_offset);
  });
}

template <c10::DeviceType device>
Tensor gemm_o(const Tensor& attn, int64_t weight, int64_t width, const OptTensor& mlp,
              const OptTensor& planes, at::ArrayRef<double> coefficients, const OptTensor& c,
              const OptTensor& s, const OptTensor& plan, int64_t block_q, int64_t block_kv,
              int64_t rows, int64_t token_offset) {
  using Signature = Tensor(const Tensor&, int64_t, int64_t, const OptTensor&, const OptTensor&,
                           at::ArrayRef<double>, const OptTensor&, const OptTensor&,
                           const OptTensor&, int64_t, int64_t, int64_t, int64_t);
  static const auto op = op_for("flashomni::gemm_o").typed<Signature>();
  const at::ScalarType type = projection_type(device);
  return without_autocast(device, [&] {
    return op.call(at::autocast::cached_cast(type, attn, device), weight, width,
                   at::autocast::cached_cast(type, mlp, device), planes, coefficients, c, s, plan,
                   block_q, block_kv, rows, token_offset);
  });
}

// Between two dense parts of a model the processors may see q, k and v of different types.
template <c10::DeviceType device>
Tensor session_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t session,
                         c10::SymInt layer, int64_t text_begin, int64_t text_end,
                         const OptTensor& mask) {
  using Signature = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, c10::SymInt,
                           int64_t, int64_t, const OptTensor&);
  static const auto op = op_for("flashomni::session_attention").typed<Signature>();
  const at::ScalarType type = at::autocast::get_autocast_dtype(device);
  return without_autocast(device, [&] {
    return op.call(
        at::autocast::cached_cast(type, q, device), at::autocast::cached_cast(type, k, device),
        at::autocast::cached_cast(type, v, device), session, layer, text_begin, text_end, mask);
  });
}

template <c10::DeviceType device>
void implement_autocast(torch::Library& m) {
  m.impl("attention", attention<device>);
  m.impl("gemm_q", gemm_q<device>);
  m.impl("gemm_o", gemm_o<device>);
  m.impl("session_attention", session_attention<device>);
}

}  // namespace
}  // namespace flashomni::python

TORCH_LIBRARY_IMPL(flashomni, AutocastCPU, m) {
  flashomni::python::implement_autocast<c10::kCPU>(m);
}

#if FLASHOMNI_TORCH_CUDA
TORCH_LIBRARY_IMPL(flashomni, AutocastCUDA, m) {
  flashomni::python::implement_autocast<c10::kCUDA>(m);
}
#endif

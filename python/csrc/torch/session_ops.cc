// SPDX-License-Identifier: Apache-2.0
//
// The operations that drive a session (python/csrc/engine/session.h) from attention processors. To
// torch they are opaque: what a layer does in a step is decided inside, at run time, so that one
// compiled graph serves Full, Update and Dispatch steps.
#include <algorithm>

#include "python/csrc/torch/seam.h"

namespace flashomni::python {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

// Counts the valid leading tokens of each sample. One read-back, at the start of a stream.
std::vector<int> lengths_of(const char* op, const Tensor& mask_in, int64_t batch, int64_t tokens) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      mask_in.scalar_type() == at::kBool && mask_in.numel() == batch * tokens &&
          mask_in.size(-1) == tokens,
      "flashomni::", op, ": attention mask is ", mask_in.scalar_type(), mask_in.sizes(),
      ", supported: bool [batch, 1, 1, tokens] that hides padding at the end");
  const Tensor mask = mask_in.reshape({batch, tokens}).to(at::kCPU).contiguous();
  const bool* on = mask.data_ptr<bool>();
  std::vector<int> lengths;
  for (int64_t b = 0; b < batch; ++b) {
    const bool* row = on + b * tokens;
    const auto count = std::count(row, row + tokens, true);
    TORCH_CHECK_NOT_IMPLEMENTED(
        count > 0 && std::all_of(row, row + count, [](bool x) { return x; }), "flashomni::", op,
        ": the attention mask of sample ", b,
        " has a hole or hides everything, supported: padding at the end");
    lengths.push_back(static_cast<int>(count));
  }
  return lengths;
}

struct Call {
  std::shared_ptr<Session> session;
  Device device;
  ExecProvider exec;
  Call(const char* op, int64_t id, const Tensor& like)
      : session(torch_take(op, find_session(id))),
        device(op, like),
        exec([this](size_t n) { return device.exec(n); }) {
    TORCH_CHECK_VALUE(&device.backend() == &session->backend(), "flashomni::", op,
                      ": tensors are on ", like.device().str(),
                      ", flashomni.apply was made for another device");
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The layer's kind; starts stream and layer where this is their first operation.
  LayerKind begin(const char* op, int64_t layer, const Sequence& s, const OptTensor& mask) {
    std::vector<int> lengths;
    if (mask && session->starts_stream(static_cast<int>(layer))) {
      lengths = lengths_of(op, *mask, s.batch, s.tokens);
    }
    return torch_take(op, session->begin_layer(static_cast<int>(layer), s, lengths, exec));
  }
};

Sequence sequence_of(int64_t batch, int64_t tokens, int64_t heads, int64_t head_dim,
                     int64_t text_begin, int64_t text_end) {
  return {.batch = int(batch),
          .heads = int(heads),
          .head_dim = int(head_dim),
          .tokens = int(tokens),
          .text_begin = int(text_begin),
          .text_end = int(text_end)};
}

int64_t begin_layer(const Tensor& like, int64_t session, int64_t layer, int64_t tokens,
                    int64_t heads, int64_t head_dim, int64_t text_begin, int64_t text_end,
                    const OptTensor& mask) {
  constexpr const char* op = "session_begin_layer";
  Call call(op, session, like);
  return static_cast<int64_t>(call.begin(
      op, layer, sequence_of(like.size(0), tokens, heads, head_dim, text_begin, text_end), mask));
}

void refuse_degraded(const char* op, LayerKind kind) {
  TORCH_CHECK(
      kind != LayerKind::kDegraded, "flashomni::", op,
      ": a layer that degrades reached its attention: its block was compiled after flashomni.apply "
      "started a run; call apply again after compiling");
}

std::tuple<Tensor, Tensor, Tensor> project_qkv(at::TensorList xs, at::IntArrayRef offsets,
                                               const OptTensor& cos, const OptTensor& sin,
                                               int64_t session, int64_t layer, int64_t tokens,
                                               int64_t heads, int64_t head_dim, int64_t text_begin,
                                               int64_t text_end, const OptTensor& mask) {
  constexpr const char* op = "session_project_qkv";
  TORCH_CHECK_VALUE(!xs.empty() && xs.size() <= 2 && xs.size() == offsets.size(), "flashomni::", op,
                    ": ", xs.size(), " tensors with ", offsets.size(), " offsets, wanted 1 or 2");
  Call call(op, session, xs[0]);
  const Sequence s = sequence_of(xs[0].size(0), tokens, heads, head_dim, text_begin, text_end);
  refuse_degraded(op, call.begin(op, layer, s, mask));
  std::vector<Tensor> kept;
  std::vector<Session::Part> parts;
  for (size_t i = 0; i < xs.size(); ++i) {
    kept.push_back(to_activation(xs[i]));
    parts.push_back({call.device.view("x", kept.back()), static_cast<int>(offsets[i])});
  }
  const auto shape = {s.batch * int64_t{1}, tokens, heads, head_dim};
  Tensor q = at::empty(shape, kept[0].options()), k = at::empty_like(q), v = at::empty_like(q);
  torch_check(
      op, call.session->project_qkv(static_cast<int>(layer), parts,
                                    {call.device.view("cos", cos), call.device.view("sin", sin)},
                                    call.device.view("q", q), call.device.view("k", k),
                                    call.device.view("v", v), call.exec));
  return {q, k, v};
}

Tensor session_attention(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                         int64_t session, int64_t layer, int64_t text_begin, int64_t text_end,
                         const OptTensor& mask) {
  constexpr const char* op = "session_attention";
  TORCH_CHECK_VALUE(q_in.dim() == 4, "flashomni::", op, ": q has ", q_in.dim(),
                    " dimensions, wanted [batch, tokens, heads, head_dim]");
  Call call(op, session, q_in);
  const Sequence s =
      sequence_of(q_in.size(0), q_in.size(1), q_in.size(2), q_in.size(3), text_begin, text_end);
  refuse_degraded(op, call.begin(op, layer, s, mask));
  const Tensor q = to_activation(q_in), k = to_activation(k_in), v = to_activation(v_in);
  // Rows past a sample's text are written by nobody.
  Tensor out = mask ? at::zeros(q.sizes(), q.options()) : at::empty(q.sizes(), q.options());
  AttentionParams p{
      .q = call.device.view("q", q), .k = call.device.view("k", k), .v = call.device.view("v", v)};
  p.out = call.device.view("out", out);
  torch_check(op, call.session->attention(static_cast<int>(layer), p, call.exec));
  return out.to(q_in.scalar_type());
}

Tensor project_out(const Tensor& attn_in, const OptTensor& mlp_in, int64_t session, int64_t layer,
                   int64_t part, int64_t offset, int64_t rows, int64_t width) {
  constexpr const char* op = "session_project_out";
  Call call(op, session, attn_in);
  const Tensor attn = to_activation(attn_in);
  const OptTensor mlp = mlp_in ? OptTensor(to_activation(*mlp_in)) : mlp_in;
  // Padding rows are written by nobody.
  Tensor out = at::zeros({attn.size(0), rows, width}, attn.options());
  torch_check(
      op, call.session->project_out(static_cast<int>(layer), static_cast<int>(part),
                                    call.device.view("attn", attn), call.device.view("mlp", mlp),
                                    static_cast<int>(offset), static_cast<int>(rows),
                                    call.device.view("out", out), call.exec));
  return out.to(attn_in.scalar_type());
}

void store_module(const Tensor& value_in, int64_t session, int64_t layer, int64_t site) {
  constexpr const char* op = "session_store_module";
  Call call(op, session, value_in);
  if (!call.session->wants_modules(static_cast<int>(layer))) return;
  const Tensor value = to_activation(value_in);
  torch_check(op, call.session->store_module(static_cast<int>(layer), static_cast<int>(site),
                                             call.device.view("value", value), call.exec));
}

Tensor reuse_module(const Tensor& residual_in, const Tensor& gate_in, int64_t session,
                    int64_t layer, int64_t site) {
  constexpr const char* op = "session_reuse_module";
  Call call(op, session, residual_in);
  const Tensor gate = gate_in.to(at::kFloat).contiguous();
  Tensor residual = to_activation(residual_in).clone(at::MemoryFormat::Contiguous);
  torch_check(op, call.session->reuse_module(static_cast<int>(layer), static_cast<int>(site),
                                             call.device.view("gate", gate),
                                             call.device.view("residual", residual), call.exec));
  return residual.to(residual_in.scalar_type());
}

void set_weight(int64_t session, int64_t layer, int64_t role, int64_t part, const Tensor& weight_in,
                const OptTensor& bias_in, int64_t head_dim, const OptTensor& rms_weight,
                double rms_eps) {
  constexpr const char* op = "session_set_weight";
  Call call(op, session, weight_in);
  TORCH_CHECK_VALUE(role >= 0 && role <= 3, "flashomni::", op, ": role is ", role,
                    ", wanted 0 to 3");
  const Tensor weight = with_unit_rows(weight_in);
  const OptTensor bias = bias_in ? OptTensor(bias_in->contiguous()) : bias_in;
  SessionWeight w;
  {
    const std::scoped_lock lock(call.device.mutex());
    WeightDesc desc{.weight = call.device.view("weight", weight),
                    .out_head_dim = static_cast<int>(head_dim)};
    desc.bias = call.device.view("bias", bias);
    w.weight = torch_take(op, call.device.backend().pack_weight(desc));
  }
  if (rms_weight) {
    auto owner = std::make_shared<Tensor>(
        rms_weight->detach().to(at::kFloat).clone(at::MemoryFormat::Contiguous));
    w.rms_weight = call.device.view("rms_weight", *owner);
    w.owner = owner;
  }
  w.rms_eps = static_cast<float>(rms_eps);
  torch_check(op, call.session->set_weight(static_cast<int>(layer), static_cast<Role>(role),
                                           static_cast<int>(part), std::move(w)));
}

}  // namespace

void define_session(torch::Library& m) {
  m.def(
      "session_begin_layer(Tensor like, int session, SymInt layer, int tokens, int heads, int "
      "head_dim, "
      "int text_begin, int text_end, Tensor? mask) -> int");
  m.def(
      "session_project_qkv(Tensor[] xs, int[] offsets, Tensor? cos, Tensor? sin, int session, int "
      "layer, "
      "int tokens, int heads, int head_dim, int text_begin, int text_end, Tensor? mask) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "session_attention(Tensor q, Tensor k, Tensor v, int session, SymInt layer, int text_begin, "
      "int "
      "text_end, "
      "Tensor? mask) -> Tensor");
  m.def(
      "session_project_out(Tensor attn, Tensor? mlp, int session, SymInt layer, int part, int "
      "offset, "
      "int rows, "
      "int width) -> Tensor");
  m.def("session_store_module(Tensor value, int session, SymInt layer, int site) -> ()");
  m.def(
      "session_reuse_module(Tensor residual, Tensor gate, int session, SymInt layer, int site) -> "
      "Tensor");
  m.def(
      "session_set_weight(int session, SymInt layer, int role, int part, Tensor weight, Tensor? "
      "bias, "
      "int head_dim, Tensor? rms_weight, float rms_eps) -> ()");
}

void implement_session(torch::Library& m) {
  m.impl("session_begin_layer", begin_layer);
  m.impl("session_project_qkv", project_qkv);
  m.impl("session_attention", session_attention);
  m.impl("session_project_out", project_out);
  m.impl("session_store_module", store_module);
  m.impl("session_reuse_module", reuse_module);
  m.impl("session_set_weight", set_weight);
}

}  // namespace flashomni::python

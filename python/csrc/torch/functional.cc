// SPDX-License-Identifier: Apache-2.0
//
// The operations without state: attention, GEMM-Q, GEMM-O, plans and symbol builders on tensors of
// any backend. Shapes are those of flashomni/ops.h; symbols are two int64 tensors of words, c
// [B,H,c_words] and s [B,H,nQ,s_words] (docs/symbols_format.md). One body serves CPU and CUDA.
#include <algorithm>
#include <array>

#include "python/csrc/torch/seam.h"

namespace flashomni::python {
namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

// Symbols as operations take them: words, sizes of blocks and the token counts they are for.
struct SymbolArgs {
  Tensor c, s;
  SymbolsView view;
  explicit operator bool() const { return bool(view); }
};

Tensor words_of(const char* op, const char* name, const Tensor& t, at::IntArrayRef shape,
                const c10::Device& device) {
  TORCH_CHECK_VALUE(t.device() == device, "flashomni::", op, ": ", name, " is on ",
                    t.device().str(), ", wanted ", device.str());
  TORCH_CHECK_VALUE(t.scalar_type() == at::kLong && t.sizes() == shape, "flashomni::", op, ": ",
                    name, " is ", t.scalar_type(), t.sizes(), ", wanted Long", shape);
  return t.contiguous();
}

SymbolArgs symbols_of(const char* op, const Device& device, const OptTensor& c, const OptTensor& s,
                      int64_t batch, int64_t heads, int64_t q_tokens, int64_t kv_tokens,
                      int64_t block_q, int64_t block_kv) {
  SymbolArgs a;
  TORCH_CHECK_VALUE(c.has_value() == s.has_value(), "flashomni::", op,
                    ": one of c and s is missing, wanted both or neither");
  if (!c) return a;
  SymbolGeometry g{int(batch),     int(heads),   int(q_tokens),
                   int(kv_tokens), int(block_q), int(block_kv)};
  torch_check(op, g.validate());
  a.c = words_of(op, "c", *c, {batch, heads, g.c_words()}, device.device());
  a.s = words_of(op, "s", *s, {batch, heads, g.num_q_blocks(), g.s_words()}, device.device());
  a.view = {g, reinterpret_cast<uint64_t*>(a.c.data_ptr()),
            reinterpret_cast<uint64_t*>(a.s.data_ptr())};
  return a;
}

// The given plan, or one made now.
PlanView plan_of(const char* op, Device& device, const SymbolArgs& symbols, const OptTensor& given,
                 Tensor& storage) {
  if (!symbols) return {};
  Backend& backend = device.backend();
  const size_t bytes = backend.plan_bytes(symbols.view.geometry);
  if (given) {
    storage = given->contiguous();
    TORCH_CHECK_VALUE(storage.scalar_type() == at::kByte && storage.device() == symbols.c.device(),
                      "flashomni::", op, ": plan is ", storage.scalar_type(), " on ",
                      storage.device().str(), ", wanted Byte on ", symbols.c.device().str());
    return {storage.data_ptr(), static_cast<size_t>(storage.numel())};
  }
  storage = at::empty({static_cast<int64_t>(std::max<size_t>(1, bytes))},
                      symbols.c.options().dtype(at::kByte));
  const PlanView plan{storage.data_ptr(), bytes};
  torch_check(op, backend.plan(device.exec(0), {symbols.view, plan}));
  return plan;
}

Tensor plan(const Tensor& c, const Tensor& s, int64_t q_tokens, int64_t kv_tokens, int64_t block_q,
            int64_t block_kv) {
  constexpr const char* op = "plan";
  Device device(op, c);
  const std::scoped_lock lock(device.mutex());
  TORCH_CHECK_VALUE(c.dim() == 3, "flashomni::plan: c has ", c.dim(),
                    " dimensions, wanted [B, H, words]");
  const SymbolArgs a =
      symbols_of(op, device, c, s, c.size(0), c.size(1), q_tokens, kv_tokens, block_q, block_kv);
  Tensor storage;
  (void)plan_of(op, device, a, {}, storage);
  return storage;
}

Tensor attention(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in, const OptTensor& c,
                 const OptTensor& s, const OptTensor& plan_in, int64_t block_q, int64_t block_kv,
                 bool every_row, double scale, const OptTensor& cached) {
  constexpr const char* op = "attention";
  for (const auto& [name, t] :
       {std::pair("q", &q_in), std::pair("k", &k_in), std::pair("v", &v_in)}) {
    TORCH_CHECK_VALUE(t->dim() == 4, "flashomni::attention: ", name, " has ", t->dim(),
                      " dimensions, wanted [batch, tokens, heads, head_dim]");
  }
  Device device(op, q_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor q = with_unit_rows(q_in), k = with_unit_rows(k_in), v = with_unit_rows(v_in);
  const SymbolArgs a =
      symbols_of(op, device, c, s, q.size(0), q.size(2), q.size(1), k.size(1), block_q, block_kv);
  Tensor out;
  if (cached) {
    TORCH_CHECK_VALUE(cached->sizes() == q.sizes() && cached->scalar_type() == q.scalar_type(),
                      "flashomni::attention: cached is ", cached->scalar_type(), cached->sizes(),
                      ", wanted that of q, ", q.scalar_type(), q.sizes());
    out = cached->clone(at::MemoryFormat::Contiguous);
  } else {
    out = every_row ? at::empty(q.sizes(), q.options()) : at::zeros(q.sizes(), q.options());
  }
  if (out.numel() == 0) return out;
  Tensor storage;
  AttentionParams p{.q = device.view("q", q), .k = device.view("k", k), .v = device.view("v", v)};
  p.out = device.view("out", out);
  p.scale = static_cast<float>(scale);
  p.symbols = a.view;
  p.plan = plan_of(op, device, a, plan_in, storage);
  torch_check(op, device.backend().supports(p));
  torch_check(op, device.backend().attention(device.exec(device.backend().workspace_bytes(p)), p));
  return out;
}

int64_t pack_weight(const Tensor& weight, const OptTensor& bias, int64_t head_dim) {
  constexpr const char* op = "pack_weight";
  Device device(op, weight);
  const std::scoped_lock lock(device.mutex());
  const Tensor w = with_unit_rows(weight);
  WeightDesc desc{.weight = device.view("weight", w), .out_head_dim = static_cast<int>(head_dim)};
  const OptTensor b = bias ? OptTensor(bias->contiguous()) : bias;
  desc.bias = device.view("bias", b);
  return register_weight(torch_take(op, device.backend().pack_weight(desc)));
}

Tensor gemm_q(const Tensor& x_in, int64_t weight, int64_t heads, int64_t head_dim,
              const OptTensor& rms_weight, double rms_eps, const OptTensor& cos,
              const OptTensor& sin, const OptTensor& c, const OptTensor& s,
              const OptTensor& plan_in, int64_t block_q, int64_t block_kv, bool every_row,
              int64_t tokens, int64_t token_offset) {
  constexpr const char* op = "gemm_q";
  TORCH_CHECK_VALUE(x_in.dim() == 3, "flashomni::gemm_q: x has ", x_in.dim(),
                    " dimensions, wanted [batch, rows, features]");
  Device device(op, x_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor x = with_unit_rows(x_in);
  const auto packed = torch_take(op, find_weight(weight));
  const int64_t all = tokens > 0 ? tokens : token_offset + x.size(1);
  const SymbolArgs a = symbols_of(op, device, c, s, x.size(0), heads, all, all, block_q, block_kv);
  const at::DimVector shape = {x.size(0), all, heads, head_dim};
  const bool all_written = every_row && x.size(1) == all;
  Tensor out = all_written ? at::empty(shape, x.options()) : at::zeros(shape, x.options());
  Tensor storage;
  GemmQParams p{.x = device.view("x", x), .weight = packed.get()};
  const OptTensor rms =
      rms_weight ? OptTensor(rms_weight->to(at::kFloat).contiguous()) : rms_weight;
  p.rms_weight = device.view("rms_weight", rms);
  p.rms_eps = static_cast<float>(rms_eps);
  p.rope = {device.view("cos", cos), device.view("sin", sin)};
  p.token_offset = static_cast<int>(token_offset);
  p.out = device.view("out", out);
  p.symbols = a.view;
  p.plan = plan_of(op, device, a, plan_in, storage);
  torch_check(op, device.backend().supports(p));
  torch_check(op, device.backend().gemm_q(device.exec(device.backend().workspace_bytes(p)), p));
  return out;
}

GemmOParams gemm_o_params(const Device& device, const Tensor& attn, const OptTensor& mlp,
                          const PackedWeight* weight, int64_t rows, int64_t token_offset) {
  GemmOParams p{.attn = device.view("attn", attn), .weight = weight};
  p.mlp = device.view("mlp", mlp);
  p.token_offset = static_cast<int>(token_offset);
  p.rows = static_cast<int>(rows);
  return p;
}

int64_t rows_of(const char* op, const Tensor& attn, const OptTensor& mlp, int64_t rows,
                int64_t token_offset) {
  TORCH_CHECK_VALUE(attn.dim() == 4, "flashomni::", op, ": attn has ", attn.dim(),
                    " dimensions, wanted [batch, tokens, heads, head_dim]");
  if (rows > 0) return rows;
  return mlp ? mlp->size(1) : attn.size(1) - token_offset;
}

// planes [P, B, N, D], f32 on the CPU and in the type of the activations on a GPU.
void set_planes(const char* op, const Device& device, GemmOParams& p, const Tensor& planes) {
  TORCH_CHECK_VALUE(planes.dim() == 4 && planes.size(0) <= GemmOParams::kMaxPlanes,
                    "flashomni::", op, ": planes is ", planes.sizes(),
                    ", wanted [1 to 4, batch, tokens, width]");
  p.num_planes = static_cast<int>(planes.size(0));
  for (int m = 0; m < p.num_planes; ++m) p.planes[m] = device.view("planes", planes.select(0, m));
}

Tensor gemm_o(const Tensor& attn_in, int64_t weight, int64_t width, const OptTensor& mlp_in,
              const OptTensor& planes, at::ArrayRef<double> coefficients, const OptTensor& c,
              const OptTensor& s, const OptTensor& plan_in, int64_t block_q, int64_t block_kv,
              int64_t rows_in, int64_t token_offset) {
  constexpr const char* op = "gemm_o";
  const int64_t rows = rows_of(op, attn_in, mlp_in, rows_in, token_offset);
  Device device(op, attn_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor attn = with_unit_rows(attn_in);
  const OptTensor mlp = mlp_in ? OptTensor(with_unit_rows(*mlp_in)) : mlp_in;
  const auto packed = torch_take(op, find_weight(weight));
  const SymbolArgs a = symbols_of(op, device, c, s, attn.size(0), attn.size(2), attn.size(1),
                                  attn.size(1), block_q, block_kv);
  TORCH_CHECK_VALUE(packed->out_features() == width, "flashomni::gemm_o: width is ", width,
                    ", the weight has ", packed->out_features(), " out features");
  Tensor out = at::empty({attn.size(0), rows, width}, attn.options());
  Tensor storage;
  GemmOParams p = gemm_o_params(device, attn, mlp, packed.get(), rows, token_offset);
  p.out = device.view("out", out);
  p.symbols = a.view;
  p.plan = plan_of(op, device, a, plan_in, storage);
  if (a) {
    TORCH_CHECK_VALUE(planes.has_value(),
                      "flashomni::gemm_o: symbols without planes, which hold the cached "
                      "heads; make them with gemm_o_update");
    set_planes(op, device, p, *planes);
    TORCH_CHECK_VALUE(coefficients.size() == static_cast<size_t>(p.num_planes),
                      "flashomni::gemm_o: ", coefficients.size(), " coefficients for ",
                      p.num_planes, " planes");
    for (int m = 0; m < p.num_planes; ++m)
      p.coefficients[m] = static_cast<float>(coefficients[size_t(m)]);
  }
  torch_check(op, device.backend().supports(p));
  torch_check(op, device.backend().gemm_o(device.exec(device.backend().workspace_bytes(p)), p));
  return out;
}

std::tuple<Tensor, Tensor> gemm_o_update(const Tensor& factors_in, int64_t weight, int64_t width,
                                         const OptTensor& mlp_in, const Tensor& c, const Tensor& s,
                                         const OptTensor& plan_in, int64_t block_q,
                                         int64_t block_kv) {
  constexpr const char* op = "gemm_o_update";
  TORCH_CHECK_VALUE(factors_in.dim() == 5 && factors_in.size(0) >= 1 &&
                        factors_in.size(0) <= GemmOParams::kMaxPlanes,
                    "flashomni::gemm_o_update: factors is ", factors_in.sizes(),
                    ", wanted [1 to 4, batch, tokens, heads, head_dim]");
  Device device(op, factors_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor factors = with_unit_rows(factors_in);
  const Tensor fresh = factors.select(0, 0);
  const OptTensor mlp = mlp_in ? OptTensor(with_unit_rows(*mlp_in)) : mlp_in;
  const auto packed = torch_take(op, find_weight(weight));
  const SymbolArgs a = symbols_of(op, device, c, s, fresh.size(0), fresh.size(2), fresh.size(1),
                                  fresh.size(1), block_q, block_kv);
  Tensor out = at::empty({fresh.size(0), fresh.size(1), width}, factors.options());
  Tensor planes =
      at::zeros({factors.size(0), fresh.size(0), fresh.size(1), width},
                factors.options().dtype(factors.is_cpu() ? at::kFloat : factors.scalar_type()));
  Tensor storage;
  GemmOUpdateParams u{.base = gemm_o_params(device, fresh, mlp, packed.get(), fresh.size(1), 0)};
  u.base.out = device.view("out", out);
  u.base.symbols = a.view;
  u.base.plan = plan_of(op, device, a, plan_in, storage);
  set_planes(op, device, u.base, planes);
  for (int m = 0; m < u.base.num_planes; ++m)
    u.factors[m] = device.view("factors", factors.select(0, m));
  torch_check(op, device.backend().supports(u));
  torch_check(
      op, device.backend().gemm_o_update(device.exec(device.backend().workspace_bytes(u.base)), u));
  return {out, planes};
}

Tensor pool(const Tensor& x_in, int64_t block, bool subtract_mean) {
  constexpr const char* op = "pool";
  TORCH_CHECK_VALUE(x_in.dim() == 4, "flashomni::pool: x has ", x_in.dim(),
                    " dimensions, wanted [batch, tokens, heads, head_dim]");
  TORCH_CHECK_VALUE(block >= 1, "flashomni::pool: block is ", block, ", wanted 1 or more");
  Device device(op, x_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor x = to_activation(x_in);
  const auto f32 = x.options().dtype(at::kFloat);
  const int64_t blocks = (x.size(1) + block - 1) / block;
  Tensor out = at::empty({x.size(0), x.size(2), blocks, x.size(3)}, f32);
  PoolParams p{
      .x = device.view("x", x), .block = static_cast<int>(block), .out = device.view("out", out)};
  Tensor mean;
  const Exec exec = device.exec(0);
  if (subtract_mean) {
    mean = at::empty({x.size(0), x.size(2), x.size(3)}, f32);
    p.mean = device.view("mean", mean);
    torch_check(op, device.backend().token_mean(exec, {p.x, p.mean}));
  }
  torch_check(op, device.backend().pool(exec, p));
  return out;
}

Tensor block_scores(const Tensor& q_in, const Tensor& k_in, double scale) {
  constexpr const char* op = "block_scores";
  TORCH_CHECK_VALUE(
      q_in.dim() == 4 && k_in.dim() == 4,
      "flashomni::block_scores: wanted pooled q and k [batch, heads, blocks, head_dim]");
  Device device(op, q_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor q = q_in.to(at::kFloat).contiguous(), k = k_in.to(at::kFloat).contiguous();
  Tensor out = at::empty({q.size(0), q.size(1), q.size(2), k.size(2)}, q.options());
  BlockScoresParams p{
      .q = device.view("q", q), .k = device.view("k", k), .scale = static_cast<float>(scale)};
  p.out = device.view("out", out);
  torch_check(op, device.backend().block_scores(device.exec(0), p));
  return out;
}

SelectRule rule_of(std::string_view rule) {
  if (rule == "drop_cdf") return SelectRule::kDropCdf;
  if (rule == "keep_cdf_lt") return SelectRule::kKeepCdfLt;
  if (rule == "keep_cdf_ge") return SelectRule::kKeepCdfGe;
  if (rule == "top_k") return SelectRule::kTopK;
  TORCH_CHECK_VALUE(false, "flashomni::select_symbols: rule is '", rule,
                    "', wanted drop_cdf, keep_cdf_lt, keep_cdf_ge or top_k");
}

std::tuple<Tensor, Tensor> select_symbols(const Tensor& scores_in, int64_t q_tokens,
                                          int64_t kv_tokens, int64_t block_q, int64_t block_kv,
                                          int64_t text_begin, int64_t text_end, double cache_theta,
                                          std::string_view text_score, std::string_view rule,
                                          double parameter, bool protect_text) {
  constexpr const char* op = "select_symbols";
  TORCH_CHECK_VALUE(scores_in.dim() == 4, "flashomni::select_symbols: scores has ", scores_in.dim(),
                    " dimensions, wanted [batch, heads, q blocks, kv blocks]");
  TORCH_CHECK_VALUE(text_score == "mean_of_softmaxes" || text_score == "softmax_of_sum",
                    "flashomni::select_symbols: text_score is '", text_score,
                    "', wanted mean_of_softmaxes or softmax_of_sum");
  Device device(op, scores_in);
  const std::scoped_lock lock(device.mutex());
  const Tensor scores = scores_in.to(at::kFloat).contiguous();
  SymbolGeometry g{int(scores.size(0)), int(scores.size(1)), int(q_tokens),
                   int(kv_tokens),      int(block_q),        int(block_kv)};
  torch_check(op, g.validate());
  const auto words = scores.options().dtype(at::kLong);
  Tensor c = at::zeros({g.batch, g.heads, g.c_words()}, words);
  Tensor s = at::zeros({g.batch, g.heads, g.num_q_blocks(), g.s_words()}, words);
  const SymbolsView out{g, reinterpret_cast<uint64_t*>(c.data_ptr()),
                        reinterpret_cast<uint64_t*>(s.data_ptr())};
  auto blocks = [&](int64_t block) {
    if (text_end <= text_begin) return BlockRange{};
    return BlockRange{int(text_begin / block), int((text_end + block - 1) / block)};
  };
  const TensorView z = device.view("scores", scores);
  SelectCachedRowsParams rows{.scores = z, .text_q = blocks(block_q), .text_kv = blocks(block_kv)};
  rows.mode = text_score == "softmax_of_sum" ? TextScoreMode::kSoftmaxOfSum
                                             : TextScoreMode::kMeanOfSoftmaxes;
  rows.theta = static_cast<float>(cache_theta);
  rows.symbols = out;
  SelectKvBlocksParams kv{
      .scores = z, .rule = rule_of(rule), .parameter = static_cast<float>(parameter)};
  if (protect_text) {
    kv.keep_q = rows.text_q;
    kv.keep_kv = rows.text_kv;
  }
  kv.symbols = out;
  const Exec exec = device.exec(0);
  torch_check(op, device.backend().select_cached_rows(exec, rows));
  torch_check(op, device.backend().select_kv_blocks(exec, kv));
  return {c, s};
}

// ---- codecs between dense boolean masks and words, on any device that torch knows

Tensor pack_mask(const Tensor& mask) {
  TORCH_CHECK_VALUE(mask.dim() >= 1,
                    "flashomni::pack_mask: a scalar, wanted at least one dimension");
  const int64_t n = mask.size(-1), words = (n + 63) / 64;
  Tensor bits = at::constant_pad_nd(mask.to(at::kBool), {0, words * 64 - n}).to(at::kLong);
  std::vector<int64_t> shape(mask.sizes().begin(), mask.sizes().end());
  shape.back() = words;
  shape.push_back(64);
  const Tensor shifts = at::arange(64, bits.options());
  // Distinct bits: their sum is their union, and wraps into the sign bit as it should.
  return at::bitwise_left_shift(bits.reshape(shape), shifts).sum(-1);
}

Tensor unpack_words(const Tensor& words, int64_t count) {
  TORCH_CHECK_VALUE(words.dim() >= 1 && words.scalar_type() == at::kLong,
                    "flashomni::unpack_words: words is ", words.scalar_type(), words.sizes(),
                    ", wanted Long with at least one dimension");
  TORCH_CHECK_VALUE(count >= 0 && count <= words.size(-1) * 64,
                    "flashomni::unpack_words: count is ", count, ", wanted 0 to ",
                    words.size(-1) * 64);
  const Tensor shifts = at::arange(64, words.options());
  const Tensor bits = at::bitwise_right_shift(words.unsqueeze(-1), shifts).bitwise_and(1);
  return bits.flatten(-2).slice(-1, 0, count).to(at::kBool).contiguous();
}

}  // namespace

void define_functional(torch::Library& m) {
  m.def(
      "plan(Tensor c, Tensor s, int q_tokens, int kv_tokens, int block_q, int block_kv) -> Tensor");
  m.def(
      "attention(Tensor q, Tensor k, Tensor v, Tensor? c, Tensor? s, Tensor? plan, int block_q, "
      "int block_kv, bool every_row, float scale, Tensor? cached) -> Tensor");
  m.def("pack_weight(Tensor weight, Tensor? bias, int head_dim) -> int");
  m.def("free_weight(int id) -> ()", [](int64_t id) { unregister_weight(id); });
  m.def(
      "gemm_q(Tensor x, int weight, int heads, int head_dim, Tensor? rms_weight, float rms_eps, "
      "Tensor? cos, Tensor? sin, Tensor? c, Tensor? s, Tensor? plan, int block_q, int block_kv, "
      "bool every_row, int tokens, int token_offset) -> Tensor");
  m.def(
      "gemm_o(Tensor attn, int weight, int width, Tensor? mlp, Tensor? planes, float[] "
      "coefficients, "
      "Tensor? c, Tensor? s, Tensor? plan, int block_q, int block_kv, int rows, int token_offset) "
      "-> Tensor");
  m.def(
      "gemm_o_update(Tensor factors, int weight, int width, Tensor? mlp, Tensor c, Tensor s, "
      "Tensor? plan, "
      "int block_q, int block_kv) -> (Tensor, Tensor)");
  m.def("pool(Tensor x, int block, bool subtract_mean) -> Tensor");
  m.def("block_scores(Tensor q, Tensor k, float scale) -> Tensor");
  m.def(
      "select_symbols(Tensor scores, int q_tokens, int kv_tokens, int block_q, int block_kv, "
      "int text_begin, int text_end, float cache_theta, str text_score, str rule, float parameter, "
      "bool protect_text) -> (Tensor, Tensor)");
  m.def("pack_mask(Tensor mask) -> Tensor");
  m.def("unpack_words(Tensor words, int count) -> Tensor");
}

void implement_functional(torch::Library& m) {
  m.impl("plan", plan);
  m.impl("attention", attention);
  m.impl("pack_weight", pack_weight);
  m.impl("gemm_q", gemm_q);
  m.impl("gemm_o", gemm_o);
  m.impl("gemm_o_update", gemm_o_update);
  m.impl("pool", pool);
  m.impl("block_scores", block_scores);
  m.impl("select_symbols", select_symbols);
  m.impl("pack_mask", pack_mask);
  m.impl("unpack_words", unpack_words);
}

}  // namespace flashomni::python

// SPDX-License-Identifier: Apache-2.0
#include "cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/bits.h"
#include "core/plan.h"
#include "core/symbols_view.h"

namespace flashomni::cpu {
namespace {

// Query rows of a work item without symbols, and most of one with them.
constexpr int kDenseBlockQ = 64;
constexpr int kMaxBlockQ = 128;
// Key/value tokens that every panel of an item meets before the next ones: the largest symbol
// block.
constexpr int kKvTokens = 128;
// Packed keys and values kept at a time: heads go through in groups of this many bytes, so that
// long sequences with many heads do not need a second copy of everything.
constexpr int64_t kPackedBytes = int64_t{32} << 20;
// Keys (as floats) that stay in an L2 of 2 MB together with as many values: fetching them ahead
// would only cost time.
constexpr int64_t kCachedKvFloats = 160 << 10;
// Keys of one step of the softmax in the kernels, which softmax_skip leaves out together; divides
// every symbol block of one size.
constexpr int64_t kAttentionStep = 32;
// Tokens of a packing task; divides the tokens of a bit of needed_.
constexpr int64_t kPackTokens = 32;
// Tokens whose rows are fetched before they are packed: a head's rows are short and far apart, so
// that hardware does not see them coming.
constexpr int64_t kPackAhead = 8;

// Where blocks begin: every so many tokens, or where a table says.
class Blocks {
 public:
  Blocks(int64_t tokens, int64_t block, const SymbolsView& symbols)
      : tokens_(tokens),
        block_(block),
        starts_(symbols && symbols.geometry.ragged() ? symbols.starts : nullptr),
        count_(starts_ ? symbols.geometry.ragged_blocks : ceil_div(tokens, block)) {}

  bool ragged() const { return starts_ != nullptr; }
  int64_t block() const { return block_; }  // tokens of the longest one
  int64_t count() const { return count_; }
  // begin(count()) is the number of tokens.
  int64_t begin(int64_t i) const { return starts_ ? starts_[i] : std::min(tokens_, i * block_); }
  int64_t length(int64_t i) const { return begin(i + 1) - begin(i); }

 private:
  int64_t tokens_;
  int64_t block_;
  const int32_t* starts_;
  int64_t count_;
};

// A half-open range of tokens.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// The tokens of the kv blocks of one row of S_s in ascending order, a few at a time. Ranges are cut
// between the aligned steps of the softmax only: groups of keys are then those of a dense call
// wherever blocks end, and all-ones symbols give its bits.
class KvRuns {
 public:
  // `bits` null: all blocks.
  KvRuns(const uint64_t* bits, const Blocks& blocks) : bits_(bits), blocks_(blocks) {}

  // Empty at the end.
  TokenRange next() {
    if (token_ == stretch_end_) {
      const int64_t begin = bits_ ? next_bit(bits_, block_, blocks_.count()) : block_;
      if (begin >= blocks_.count()) return {token_, token_};
      int64_t end = bits_ ? begin : blocks_.count();
      while (end < blocks_.count() && get_bit(bits_, end)) ++end;
      block_ = end;
      token_ = blocks_.begin(begin);
      stretch_end_ = blocks_.begin(end);
    }
    const int64_t begin = token_;
    const int64_t most =
        begin % kAttentionStep == 0 ? kKvTokens : kAttentionStep - begin % kAttentionStep;
    token_ = std::min(stretch_end_, begin + most);
    return {begin, token_};
  }

 private:
  const uint64_t* bits_;
  const Blocks& blocks_;
  int64_t block_ = 0;  // the first one after the stretch of set blocks at hand
  int64_t token_ = 0;  // the next one of the stretch
  int64_t stretch_end_ = 0;
};

// Some query rows of an item on their way through the keys.
struct Panel {
  const AttentionKernels* kernels;
  AttentionState state;
};

// A query block of a head.
struct Item {
  int64_t group = -1;  // batch item * heads + head; -1: none
  int64_t block = 0;
};

class Attention {
 public:
  Attention(const Context& context, const AttentionParams& params)
      : context_(context),
        params_(params),
        batch_(params.q.size(0)),
        tokens_(params.q.size(1)),
        heads_(params.q.size(2)),
        head_dim_(static_cast<int>(params.q.size(3))),
        kv_tokens_(params.k.size(1)),
        q_blocks_(tokens_, params.symbols ? params.symbols.geometry.block_q : kDenseBlockQ,
                  params.symbols),
        kv_blocks_(kv_tokens_, params.symbols ? params.symbols.geometry.block_kv : kKvTokens,
                   params.symbols),
        needed_tokens_(kv_blocks_.ragged() ? kAttentionStep : kv_blocks_.block()),
        packs_k_(must_pack(params.k)),
        packs_v_(must_pack(params.v)) {
    if (groups() == 0) return;
    const int64_t packed = (packs_k_ + packs_v_) * kv_tokens_ * head_dim_;
    const int64_t fit =
        packed == 0 ? groups() : kPackedBytes / (packed * static_cast<int64_t>(sizeof(float)));
    // Steps of equal size: a short last one would pay for the threads' waiting at its end.
    const int64_t steps = ceil_div(groups(), std::max<int64_t>(1, fit));
    group_step_ = ceil_div(groups(), steps);
  }

  size_t workspace_bytes() const {
    return kAlignment + packed_bytes(packs_k_) + packed_bytes(packs_v_) + needed_bytes() +
           thread_bytes() * static_cast<size_t>(context_.pool.size());
  }

  void run(void* workspace) {
    Arena arena(workspace);
    packed_k_ = reinterpret_cast<float*>(arena.take<char>(int64_t(packed_bytes(packs_k_))));
    packed_v_ = reinterpret_cast<float*>(arena.take<char>(int64_t(packed_bytes(packs_v_))));
    needed_ = reinterpret_cast<uint64_t*>(arena.take<char>(int64_t(needed_bytes())));
    threads_ = arena.take<char>(0);
    for (int64_t g = 0; g < groups(); g += group_step_) {
      const int64_t end = std::min(groups(), g + group_step_);
      pack(g, end);
      compute(g, end);
    }
  }

 private:
  // f32 rows are read where they are unless their distance is unkind to the caches.
  static bool must_pack(const TensorView& v) {
    return v.dtype != DType::kF32 || rows_collide(v.stride[1]);
  }

  int64_t groups() const { return batch_ * heads_; }
  // Of a group's bits in needed_.
  int64_t words() const { return words_for_bits(ceil_div(kv_tokens_, needed_tokens_)); }

  size_t packed_bytes(bool packs) const {
    return packs ? float_bytes(group_step_ * kv_tokens_ * head_dim_) : 0;
  }
  size_t needed_bytes() const {
    return params_.symbols ? align_up(static_cast<size_t>(group_step_ * words()) * 8) : 0;
  }
  // Query panels of one item, and one tile of probabilities.
  size_t thread_bytes() const {
    const int64_t panel = context_.kernels.attention->panel;
    const int64_t panels = ceil_div(kMaxBlockQ, panel);
    return static_cast<size_t>(panels) *
               (2 * float_bytes(head_dim_ * panel) + 3 * float_bytes(panel)) +
           float_bytes(kBufferedTokens * panel);
  }

  static const char* element(const TensorView& v, int64_t b, int64_t token, int64_t h) {
    const int64_t offset = b * v.stride[0] + token * v.stride[1] + h * v.stride[2];
    return static_cast<const char*>(v.data) + offset * static_cast<int64_t>(dtype_bytes(v.dtype));
  }

  // Of one head of a token.
  int64_t row_bytes(const TensorView& v) const {
    return head_dim_ * static_cast<int64_t>(dtype_bytes(v.dtype));
  }

  // Brings the kv blocks that some active row of heads [begin, end) needs into f32.
  void pack(int64_t begin, int64_t end) {
    if (!packs_k_ && !packs_v_) return;
    if (params_.symbols) {
      context_.pool.run(end - begin, [&](int64_t g, int) { find_needed(begin, begin + g); });
    }
    // A task takes a few tokens of all heads: the heads of a token lie side by side, and reading
    // them in that order keeps memory streaming.
    context_.pool.run(ceil_div(kv_tokens_, kPackTokens), [&](int64_t task, int) {
      const int64_t first = task * kPackTokens;
      const int64_t last = std::min(kv_tokens_, first + kPackTokens);
      if (packs_k_) pack_tokens(params_.k, begin, end, first, last, packed_k_);
      if (packs_v_) pack_tokens(params_.v, begin, end, first, last, packed_v_);
    });
  }

  // needed_ of a group = the union of its active rows. Of ragged blocks, which may be as many as
  // tokens, it tells aligned groups of tokens with any of them needed.
  void find_needed(int64_t begin, int64_t group) {
    const ConstSymbolsView symbols(params_.symbols);
    uint64_t* needed = needed_ + (group - begin) * words();
    std::fill_n(needed, words(), 0);
    for_each_bit(symbols.c_row(static_cast<int>(group)), q_blocks_.count(), [&](int64_t i) {
      const uint64_t* row = symbols.s_row(static_cast<int>(group), static_cast<int>(i));
      if (kv_blocks_.ragged()) {
        for_each_bit(row, kv_blocks_.count(), [&](int64_t j) {
          const int64_t last = (kv_blocks_.begin(j + 1) - 1) / needed_tokens_;
          for (int64_t n = kv_blocks_.begin(j) / needed_tokens_; n <= last; ++n) {
            set_bit(needed, n, true);
          }
        });
        return;
      }
      for (int64_t w = 0; w < words(); ++w) needed[w] |= row[w];
    });
  }

  // Tokens [first, last), all of one bit of needed_, of the heads that need it.
  void pack_tokens(const TensorView& v, int64_t begin, int64_t end, int64_t first, int64_t last,
                   float* packed) const {
    const int64_t bit = first / needed_tokens_;
    const int64_t token_bytes = v.stride[1] * static_cast<int64_t>(dtype_bytes(v.dtype));
    const int64_t row = row_bytes(v);
    const auto to_f32 = context_.kernels.to_f32;
    for (int64_t t = first; t < last; ++t) {
      const int64_t ahead = t + kPackAhead < kv_tokens_ ? kPackAhead * token_bytes : 0;
      int64_t b = begin / heads_, h = begin % heads_;
      for (int64_t g = 0; g < end - begin; ++g, ++h) {
        if (h == heads_) ++b, h = 0;
        if (params_.symbols && !get_bit(needed_ + g * words(), bit)) continue;
        const char* src = element(v, b, t, h);
        if (ahead > 0) prefetch_row(src + ahead, row);
        to_f32(v.dtype, src, packed + (g * kv_tokens_ + t) * head_dim_, head_dim_);
      }
    }
  }

  // All keys and values of a group, in f32.
  KvBlock kv_rows(int64_t begin, int64_t group) const {
    const int64_t b = group / heads_, h = group % heads_;
    const int64_t packed = (group - begin) * kv_tokens_ * head_dim_;
    KvBlock kv;
    kv.k =
        packs_k_ ? packed_k_ + packed : reinterpret_cast<const float*>(element(params_.k, b, 0, h));
    kv.v =
        packs_v_ ? packed_v_ + packed : reinterpret_cast<const float*>(element(params_.v, b, 0, h));
    kv.k_stride = packs_k_ ? head_dim_ : params_.k.stride[1];
    kv.v_stride = packs_v_ ? head_dim_ : params_.v.stride[1];
    kv.tokens = static_cast<int>(kv_tokens_);
    return kv;
  }

  static KvBlock part_of(const KvBlock& kv, const TokenRange& run) {
    KvBlock part = kv;
    part.k += run.begin * kv.k_stride;
    part.v += run.begin * kv.v_stride;
    part.tokens = static_cast<int>(run.size());
    return part;
  }

  KvRuns runs(const Item& item) const {
    const uint64_t* bits =
        params_.symbols ? ConstSymbolsView(params_.symbols)
                              .s_row(static_cast<int>(item.group), static_cast<int>(item.block))
                        : nullptr;
    return KvRuns(bits, kv_blocks_);
  }

  void compute(int64_t begin, int64_t end) {
    if (!params_.symbols) {
      const int64_t blocks = q_blocks_.count();
      run_items(begin, (end - begin) * blocks, [&](int64_t index) {
        return Item{begin + index / blocks, index % blocks};
      });
      return;
    }
    // Items of a head follow each other, so both threads work on the same keys and values; within
    // a head the longest come first, so that the threads finish together.
    const PlanReader plan(params_.plan.data);
    const int64_t first = plan_offset(plan, begin);
    const auto items = plan.items().subspan(static_cast<size_t>(first));
    run_items(begin, plan_offset(plan, end) - first, [&](int64_t index) {
      const PlanItem& item = items[static_cast<size_t>(index)];
      return Item{int64_t{item.b} * heads_ + item.h, item.i};
    });
  }

  // Threads take a few items at a time where there are many, so that an item's successor is known
  // and its memory on the way.
  template <class F>
  void run_items(int64_t begin, int64_t count, const F& item_at) const {
    constexpr int64_t kItemsTaken = 4;
    constexpr int64_t kManyPerThread = 64;
    const int64_t taken = count >= kManyPerThread * context_.pool.size() ? kItemsTaken : 1;
    context_.pool.run(
        count,
        [&](int64_t index, int worker) {
          // After the last one taken, the other threads' come first.
          const bool last = index % taken == taken - 1;
          const int64_t next = index + 1 + (last ? taken * (context_.pool.size() - 1) : 0);
          compute_item(begin, item_at(index), next < count ? item_at(next) : Item(), worker);
        },
        taken);
  }

  int64_t plan_offset(const PlanReader& plan, int64_t group) const {
    if (group == groups()) return plan.num_items();
    return plan.item_begin(static_cast<int>(group / heads_), static_cast<int>(group % heads_));
  }

  // One query block of one head; `next` is likely the thread's next one.
  void compute_item(int64_t begin, const Item& item, const Item& next, int worker) const {
    Panel panels[kMaxBlockQ];
    int64_t left_out = 0, products = 0;
    const int num_panels = load_panels(item.group, item.block, worker, panels, &left_out);

    const KvBlock kv = kv_rows(begin, item.group);
    const bool prefetches = kv_tokens_ * head_dim_ > kCachedKvFloats;
    PrefetchQueue coming;
    if (prefetches) expect(coming, PrefetchQueue::kOutputs, params_.out, item);
    KvRuns todo = runs(item);
    for (TokenRange run = todo.next(); run.size() > 0;) {
      const TokenRange next_run = todo.next();
      if (prefetches && next_run.size() > 0) {
        expect(coming, part_of(kv, next_run));
      } else if (prefetches && next.group >= 0) {
        expect(coming, part_of(kv_rows(begin, next.group), runs(next).next()));
        expect(coming, PrefetchQueue::kQueries, params_.q, next);
      }
      for (int i = 0; i < num_panels; ++i) {
        const AttentionKernels& kernels = *panels[i].kernels;
        const auto attend = skips() ? kernels.attend_skipping : kernels.attend;
        attend(panels[i].state, part_of(kv, run), prefetches ? &coming : nullptr);
      }
      products += ceil_div(run.size(), kAttentionStep);
      run = next_run;
    }
    if (skips() && params_.skip_counts) {
      count(params_.skip_counts->products, products * rows_of(item.block));
      count(params_.skip_counts->left_out, left_out);
    }
    store_panels(item.group, item.block, panels);
  }

  void expect(PrefetchQueue& coming, const KvBlock& kv) const {
    constexpr int64_t kFloat = sizeof(float);
    coming.set(PrefetchQueue::kKeys, kv.k, head_dim_ * kFloat, kv.tokens, kv.k_stride * kFloat);
    coming.set(PrefetchQueue::kValues, kv.v, head_dim_ * kFloat, kv.tokens, kv.v_stride * kFloat);
  }

  // The rows of a query block in queries or outputs.
  void expect(PrefetchQueue& coming, PrefetchQueue::AttentionSlot slot, const TensorView& v,
              const Item& item) const {
    coming.set(slot,
               element(v, item.group / heads_, q_blocks_.begin(item.block), item.group % heads_),
               row_bytes(v), rows_of(item.block), v.stride[1] * int64_t(dtype_bytes(v.dtype)));
  }

  bool skips() const { return params_.softmax_skip > 0; }
  // Of several threads; a sum of whole numbers is the same in any order.
  static void count(int64_t& total, int64_t n) {
    std::atomic_ref(total).fetch_add(n, std::memory_order_relaxed);
  }

  int rows_of(int64_t i) const { return static_cast<int>(q_blocks_.length(i)); }

  // The kernels for so many rows: half empty panels would take the time of full ones.
  const AttentionKernels* kernels_for(int rows) const {
    const KernelTable& kernels = context_.kernels;
    return rows <= kernels.narrow_attention->panel ? kernels.narrow_attention : kernels.attention;
  }

  // Fresh panels of query block i, in the thread's memory; returns how many.
  int load_panels(int64_t group, int64_t i, int worker, Panel* panels, int64_t* left_out) const {
    const int rows = rows_of(i);
    const float scale =
        params_.scale != 0.f ? params_.scale : 1.f / std::sqrt(static_cast<float>(head_dim_));
    Arena arena(threads_ + thread_bytes() * static_cast<size_t>(worker));
    float* p = arena.take<float>(kBufferedTokens * context_.kernels.attention->panel);
    int count = 0;
    for (int r = 0; r < rows; r += panels[count++].kernels->panel) {
      const AttentionKernels& kernels = *kernels_for(rows - r);
      const int panel = kernels.panel;
      panels[count].kernels = &kernels;
      float* q_t = arena.take<float>(int64_t{head_dim_} * panel);
      kernels.load_queries(
          params_.q.dtype,
          element(params_.q, group / heads_, q_blocks_.begin(i) + r, group % heads_),
          params_.q.stride[1], std::min(panel, rows - r), head_dim_, scale * 1.4426950408889634f,
          q_t);
      AttentionState& state = panels[count].state;
      state.q_t = q_t;
      state.out_t = arena.take<float>(int64_t{head_dim_} * panel);
      state.max = arena.take<float>(panel);
      state.sum = arena.take<float>(panel);
      state.p = p;
      state.head_dim = head_dim_;
      if (skips()) {
        state.top = arena.take<float>(panel);
        state.softmax_skip = params_.softmax_skip;
        state.rows = std::min(panel, rows - r);
        state.left_out = left_out;
        std::fill_n(state.top, panel, -INFINITY);
      }
      state.begun = false;
      std::fill_n(state.max, panel, -INFINITY);
      std::fill_n(state.sum, panel, 0.f);
    }
    return count;
  }

  void store_panels(int64_t group, int64_t i, Panel* panels) const {
    const int64_t b = group / heads_, h = group % heads_;
    const int rows = rows_of(i);
    for (int r = 0; r < rows; r += panels++->kernels->panel) {
      const int64_t row = q_blocks_.begin(i) + r;
      const TensorView& lse = params_.lse;
      AttentionState& state = panels->state;
      if (!state.begun) std::fill_n(state.out_t, int64_t{head_dim_} * panels->kernels->panel, 0.f);
      panels->kernels->store_outputs(
          state, std::min(panels->kernels->panel, rows - r), params_.out.dtype,
          const_cast<char*>(element(params_.out, b, row, h)), params_.out.stride[1],
          lse ? lse.as<float>() + b * lse.stride[0] + h * lse.stride[1] + row : nullptr);
    }
  }

  const Context& context_;
  const AttentionParams& params_;
  const int64_t batch_;
  const int64_t tokens_;
  const int64_t heads_;
  const int head_dim_;
  const int64_t kv_tokens_;
  const Blocks q_blocks_;
  const Blocks kv_blocks_;
  const int64_t needed_tokens_;  // of a bit of needed_
  const bool packs_k_;
  const bool packs_v_;
  int64_t group_step_ = 1;  // heads packed at a time
  float* packed_k_ = nullptr;
  float* packed_v_ = nullptr;
  uint64_t* needed_ = nullptr;  // [group_step_][words()]
  char* threads_ = nullptr;
};

}  // namespace

size_t attention_workspace_bytes(const Context& context, const AttentionParams& params) {
  return Attention(context, params).workspace_bytes();
}

void attention(const Context& context, void* workspace, const AttentionParams& params) {
  if (params.q.numel() == 0) return;
  Attention(context, params).run(workspace);
}

}  // namespace flashomni::cpu

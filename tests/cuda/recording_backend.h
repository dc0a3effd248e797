// SPDX-License-Identifier: Apache-2.0
//
// Which operation gives other bits than before: keeps what every dense operation of one run wrote
// and compares the same operations of later runs with it. Slow (it waits for every operation and
// copies its results to the host), and it names the operation where an end result only says that
// something was different.
#pragma once

#include <cstring>
#include <initializer_list>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/forwarding_backend.h"
#include "core/op_names.h"

namespace flashomni::testkit {

class RecordingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  // Before every run. The first one is what later ones are compared with.
  void begin_run() {
    ++run_;
    next_ = 0;
    differed_ = false;
    scope_.clear();
  }
  // The first operation of each run that was not as in the first run.
  const std::vector<std::string>& differences() const { return differences_; }

  void set_scope(const std::string& name) override {
    scope_ = name;
    inner_.set_scope(name);
  }
  Result<BatchOutcome> end_batch() override {
    return BatchOutcome{.reason = "operations are compared one by one"};
  }
  Status begin_batch(const Exec&) override { return ok_status(); }

  Status linear(const Exec& e, const LinearParams& p) override {
    return recorded(e, op_name(p), {p.out, p.residual}, [&] { return inner_.linear(e, p); });
  }
  Status norm_modulate(const Exec& e, const NormModulateParams& p) override {
    return recorded(e, op_name(p), {p.out}, [&] { return inner_.norm_modulate(e, p); });
  }
  Status rms_norm(const Exec& e, const RmsNormParams& p) override {
    return recorded(e, op_name(p), {p.x}, [&] { return inner_.rms_norm(e, p); });
  }
  Status gemm_q(const Exec& e, const GemmQParams& p) override {
    return recorded(e, op_name(p), {written(p)}, [&] { return inner_.gemm_q(e, p); });
  }
  Status gemm_qkv(const Exec& e, const GemmQkvParams& p) override {
    return recorded(e, op_name(p), {written(p.q), written(p.k), written(p.v)},
                    [&] { return inner_.gemm_qkv(e, p); });
  }
  Status attention(const Exec& e, const AttentionParams& p) override {
    return recorded(e, op_name(p), {p.out, p.lse}, [&] { return inner_.attention(e, p); });
  }
  Status gemm_o(const Exec& e, const GemmOParams& p) override {
    return recorded(e, op_name(p), {p.out, p.residual}, [&] { return inner_.gemm_o(e, p); });
  }
  Status gemm_o_update(const Exec& e, const GemmOUpdateParams& p) override {
    return recorded(e, op_name(p), {p.base.out, p.base.residual},
                    [&] { return inner_.gemm_o_update(e, p); });
  }
  Status taylor_update(const Exec& e, const TaylorUpdateParams& p) override {
    return recorded(e, op_name(p), {p.factors[0]}, [&] { return inner_.taylor_update(e, p); });
  }
  Status taylor_forecast(const Exec& e, const TaylorForecastParams& p) override {
    return recorded(e, op_name(p), {p.out, p.residual},
                    [&] { return inner_.taylor_forecast(e, p); });
  }
  Status activation(const Exec& e, const ActivationParams& p) override {
    return recorded(e, op_name(p), {p.out}, [&] { return inner_.activation(e, p); });
  }
  Status combine(const Exec& e, const CombineParams& p) override {
    return recorded(e, op_name(p), {p.out}, [&] { return inner_.combine(e, p); });
  }
  Status copy(const Exec& e, const CopyParams& p) override {
    return recorded(e, op_name(p), {p.dst}, [&] { return inner_.copy(e, p); });
  }

  // What makes symbols goes through: tests of dense runs have none.
  // clang-format off
  Status token_mean(const Exec& e, const TokenMeanParams& p) override { return inner_.token_mean(e, p); }
  Status pool(const Exec& e, const PoolParams& p) override { return inner_.pool(e, p); }
  Status block_scores(const Exec& e, const BlockScoresParams& p) override { return inner_.block_scores(e, p); }
  Status select_cached_rows(const Exec& e, const SelectCachedRowsParams& p) override { return inner_.select_cached_rows(e, p); }
  Status select_kv_blocks(const Exec& e, const SelectKvBlocksParams& p) override { return inner_.select_kv_blocks(e, p); }
  Status count_symbols(const Exec& e, const CountSymbolsParams& p) override { return inner_.count_symbols(e, p); }
  Status plan(const Exec& e, const PlanParams& p) override { return inner_.plan(e, p); }
  Status antidiagonal_scores(const Exec& e, const AntidiagonalScoresParams& p) override { return inner_.antidiagonal_scores(e, p); }
  Status column_mass(const Exec& e, const ColumnMassParams& p) override { return inner_.column_mass(e, p); }
  Status block_change(const Exec& e, const BlockChangeParams& p) override { return inner_.block_change(e, p); }
  Status select_rows(const Exec& e, const SelectRowsParams& p) override { return inner_.select_rows(e, p); }
  Status select_kv_share(const Exec& e, const SelectKvShareParams& p) override { return inner_.select_kv_share(e, p); }
  Status select_pattern(const Exec& e, const SelectPatternParams& p) override { return inner_.select_pattern(e, p); }
  Status keep_columns(const Exec& e, const KeepColumnsParams& p) override { return inner_.keep_columns(e, p); }
  Status measure_change(const Exec& e, const MeasureChangeParams& p) override { return inner_.measure_change(e, p); }
  // clang-format on

 private:
  using Bytes = std::vector<uint8_t>;
  struct Record {
    std::string name;
    std::vector<Bytes> results;
  };

  // The rows of `out` that a projection writes.
  static TensorView written(const GemmQParams& p) {
    return p.out.slice(1, p.token_offset, p.token_offset + p.x.size(1));
  }

  template <class F>
  Status recorded(const Exec& e, const char* op, std::initializer_list<TensorView> results,
                  const F& call) {
    FO_RETURN_IF_ERROR(call());
    FO_RETURN_IF_ERROR(inner_.synchronize(e));
    Record now{scope_ + " " + op, {}};
    for (const TensorView& t : results) {
      now.results.emplace_back();
      if (t) FO_RETURN_IF_ERROR(fetch(e, t, now.results.back()));
    }
    if (run_ <= 1) {
      first_.push_back(std::move(now));
    } else if (!differed_) {
      compare(now, results);
    }
    ++next_;
    return ok_status();
  }

  void compare(const Record& now, std::initializer_list<TensorView> views) {
    if (next_ >= first_.size() || first_[next_].name != now.name) {
      return report("operation " + std::to_string(next_) + " is " + now.name +
                    ", another one than before");
    }
    for (size_t r = 0; r < now.results.size(); ++r) {
      const Bytes &a = first_[next_].results[r], &b = now.results[r];
      if (a == b) continue;
      return report("operation " + std::to_string(next_) + ", " + now.name + ", result " +
                    std::to_string(r) + where(a, b, views.begin()[r]));
    }
  }
  void report(const std::string& text) {
    differed_ = true;
    differences_.push_back("run " + std::to_string(run_) + ": " + text);
  }

  // How many elements differ, and the box of indices that holds them.
  static std::string where(const Bytes& a, const Bytes& b, const TensorView& view) {
    const size_t bytes = dtype_bytes(view.dtype);
    int64_t low[TensorView::kMaxRank], high[TensorView::kMaxRank], count = 0;
    for (size_t at = 0; at < a.size(); at += bytes) {
      if (std::memcmp(&a[at], &b[at], bytes) == 0) continue;
      auto rest = static_cast<int64_t>(at / bytes);
      for (int d = view.rank - 1; d >= 0; --d) {
        const int64_t i = rest % view.size(d);
        rest /= view.size(d);
        low[d] = count ? std::min(low[d], i) : i;
        high[d] = count ? std::max(high[d], i) : i;
      }
      ++count;
    }
    std::ostringstream out;
    out << ": " << count << " elements of [";
    for (int d = 0; d < view.rank; ++d) out << (d ? ", " : "") << view.size(d);
    out << "], in [";
    for (int d = 0; d < view.rank; ++d) out << (d ? ", " : "") << low[d] << ".." << high[d];
    out << "]";
    return out.str();
  }

  // Row-major, whatever the strides of the view.
  Status fetch(const Exec& e, const TensorView& t, Bytes& out) {
    int64_t span = 1;
    for (int d = 0; d < t.rank; ++d) span += (t.size(d) - 1) * t.stride[d];
    const size_t bytes = dtype_bytes(t.dtype);
    Bytes all(static_cast<size_t>(span) * bytes);
    FO_RETURN_IF_ERROR(inner_.download(e, all.data(), t.data, all.size()));
    FO_RETURN_IF_ERROR(inner_.synchronize(e));
    if (t.is_contiguous()) {
      out = std::move(all);
      return ok_status();
    }
    out.resize(t.bytes());
    int64_t index[TensorView::kMaxRank] = {};
    const auto inner = static_cast<size_t>(t.size(t.rank - 1));
    const bool packed = t.stride[t.rank - 1] == 1;
    for (size_t at = 0; at < out.size();) {
      int64_t from = 0;
      for (int d = 0; d < t.rank; ++d) from += index[d] * t.stride[d];
      const size_t n = packed ? inner : 1;
      std::memcpy(&out[at], &all[static_cast<size_t>(from) * bytes], n * bytes);
      at += n * bytes;
      index[t.rank - 1] += static_cast<int64_t>(n);
      for (int d = t.rank - 1; d > 0 && index[d] == t.size(d); --d) {
        index[d] = 0;
        ++index[d - 1];
      }
    }
    return ok_status();
  }

  std::string scope_;
  int run_ = 0;
  size_t next_ = 0;
  bool differed_ = false;
  std::vector<Record> first_;
  std::vector<std::string> differences_;
};

}  // namespace flashomni::testkit

// SPDX-License-Identifier: Apache-2.0
#include "strategies/pattern_store.h"

#include <algorithm>

namespace flashomni::strategies {
namespace {

TensorView words_view(void* data, int64_t count) {
  return TensorView::contiguous(data, DType::kU64, {count});
}

}  // namespace

void PatternStore::clear() {
  patterns_.clear();
  memory_.reset();
}

int PatternStore::add(SparseSymbols symbols) {
  const auto same = std::find(patterns_.begin(), patterns_.end(), symbols);
  if (same != patterns_.end()) return static_cast<int>(same - patterns_.begin());
  patterns_.push_back(std::move(symbols));
  return size() - 1;
}

Status PatternStore::prepare(Backend& backend, const Exec& exec) {
  if (patterns_.empty()) return ok_status();
  const SymbolGeometry& g = patterns_[0].geometry();
  const size_t words = size_t(g.total_c_words() + g.total_s_words());
  FO_ASSIGN_OR_RETURN(memory_, backend.allocate(patterns_.size() * words * sizeof(uint64_t)));
  auto* next = static_cast<uint64_t*>(memory_->data());
  for (const SparseSymbols& p : patterns_) {
    for (const auto span : {p.c_words(), p.s_words()}) {
      FO_RETURN_IF_ERROR(backend.upload(exec, next, span.data(), span.size_bytes()));
      next += span.size();
    }
  }
  return ok_status();
}

Status PatternStore::put(const BuildContext& c, int index, SymbolsView out) const {
  if (!memory_) return internal_error("a pattern was asked for before prepare()");
  if (!(at(index).geometry() == out.geometry)) {
    return internal_error("symbols were built for another sequence");
  }
  const int64_t c_words = out.geometry.total_c_words(), s_words = out.geometry.total_s_words();
  auto* from = static_cast<uint64_t*>(memory_->data()) + (c_words + s_words) * index;
  // Both sets of words lie together here, and in the engine too: one copy, which costs its launch.
  if (out.s == out.c + c_words) {
    return c.backend->copy(c.exec, {.src = words_view(from, c_words + s_words),
                                    .dst = words_view(out.c, c_words + s_words)});
  }
  FO_RETURN_IF_ERROR(c.backend->copy(
      c.exec, {.src = words_view(from, c_words), .dst = words_view(out.c, c_words)}));
  return c.backend->copy(
      c.exec, {.src = words_view(from + c_words, s_words), .dst = words_view(out.s, s_words)});
}

}  // namespace flashomni::strategies

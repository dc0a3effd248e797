// SPDX-License-Identifier: Apache-2.0
#include "core/model_skip.h"

namespace flashomni {

Status ModelSkip::begin_run(Backend& backend, const SkipSpec& spec, const RunInfo& run, int width) {
  *this = {};
  backend_ = &backend;
  spec_ = spec;
  if (!spec_.enabled) return ok_status();
  first_ = spec_.prefix;
  last_ = run.layers - spec_.suffix;
  if (first_ >= last_) {
    return invalid_argument("the first " + std::to_string(spec_.prefix) + " and the last " +
                            std::to_string(spec_.suffix) + " of " + std::to_string(run.layers) +
                            " layers always run, wanted at least one between them to skip");
  }
  const int64_t batch = run.sequence.batch, tokens = run.sequence.tokens;
  residuals_.resize(size_t(run.streams));
  for (TaylorSite& r : residuals_) {
    FO_RETURN_IF_ERROR(
        r.allocate(backend, backend.activation_dtype(), {batch, tokens, width}, spec_.order));
  }
  const size_t bytes = size_t(batch) * size_t(tokens) * size_t(width) * sizeof(float);
  std::vector<std::unique_ptr<Buffer>*> wanted = {&entry_, &difference_};
  if (spec_.probe != SkipProbe::kNone) wanted.push_back(&probe_);
  if (spec_.probe == SkipProbe::kPrefixResidual) wanted.push_back(&start_);
  for (std::unique_ptr<Buffer>* buffer : wanted) {
    FO_ASSIGN_OR_RETURN(*buffer, backend.allocate(bytes));
  }
  const size_t pieces = size_t(tokens) / MeasureChangeParams::kRows + 1;
  FO_ASSIGN_OR_RETURN(sums_memory_, backend.allocate(size_t(batch) * pieces * 2 * sizeof(double)));
  return ok_status();
}

void ModelSkip::begin_step(bool skip_asked) {
  skip_asked_ = skip_asked;
  skipping_ = false;
  change_ = -1;
  passed_ = 0;
}

bool ModelSkip::wants_probe(int stream) const {
  return spec_.enabled && spec_.probe == SkipProbe::kModulatedInput && stream == 0;
}

size_t ModelSkip::bytes() const {
  size_t n = 0;
  for (const TaylorSite& r : residuals_) n += r.bytes();
  return n;
}

size_t ModelSkip::scratch_bytes() const {
  size_t n = 0;
  for (const auto* b : {&start_, &entry_, &difference_, &probe_, &sums_memory_}) {
    if (*b) n += (*b)->bytes();
  }
  return n;
}

// A view of `buffer` shaped like a tensor of the run.
Result<TensorView> ModelSkip::room(std::unique_ptr<Buffer>& buffer, const TensorView& like) {
  if (like.rank != 3 || !buffer || like.bytes() > buffer->bytes()) {
    return invalid_argument("step skipping got " + like.to_string() +
                            ", wanted [B, rows, width] of " +
                            std::to_string(buffer ? buffer->bytes() : 0) + " bytes at most");
  }
  return TensorView::contiguous(buffer->data(), like.dtype,
                                {like.size(0), like.size(1), like.size(2)});
}

Result<double> ModelSkip::change(const Exec& exec, const TensorView& x) {
  if (!has_probe_) return -1.0;
  FO_ASSIGN_OR_RETURN(const TensorView kept, room(probe_, x));
  MeasureChangeParams m{.x = x, .y = kept, .out = &sums_};
  const int64_t pieces = (x.size(1) + MeasureChangeParams::kRows - 1) / MeasureChangeParams::kRows;
  m.workspace = TensorView::contiguous(sums_memory_->data(), DType::kF64, {x.size(0), pieces, 2});
  FO_RETURN_IF_ERROR(backend_->measure_change(exec, m));
  FO_RETURN_IF_ERROR(backend_->synchronize(exec));
  ++waits_;
  return sums_.relative();
}

Status ModelSkip::difference(const Exec& exec, const TensorView& x, const TensorView& y,
                             const TensorView& out) {
  return backend_->combine(exec, {.x = x, .y = y, .a = 1.f, .b = -1.f, .out = out});
}

// The probe of the previous step is compared with and replaced, skipped or not (TeaCache).
Status ModelSkip::probe_input(const Exec& exec, const TensorView& x) {
  FO_ASSIGN_OR_RETURN(change_, change(exec, x));
  FO_ASSIGN_OR_RETURN(const TensorView kept, room(probe_, x));
  has_probe_ = true;
  return backend_->copy(exec, {.src = x, .dst = kept});
}

Result<int> ModelSkip::next_layer(const Exec& exec, Strategy& strategy, const StepContext& step,
                                  int stream, int layer, const TensorView& x) {
  if (!spec_.enabled) return layer;
  TaylorSite& residual = residuals_[size_t(stream)];
  const bool by_prefix = spec_.probe == SkipProbe::kPrefixResidual;
  if (layer == 0 && by_prefix && stream == 0) {
    FO_ASSIGN_OR_RETURN(const TensorView start, room(start_, x));
    FO_RETURN_IF_ERROR(backend_->copy(exec, {.src = x, .dst = start}));
  }
  if (layer == first_) {
    if (stream == 0) {
      // One decision a step: the other guidance streams follow the first.
      TensorView added;
      if (by_prefix) {
        FO_ASSIGN_OR_RETURN(added, room(difference_, x));
        FO_ASSIGN_OR_RETURN(const TensorView start, room(start_, x));
        FO_RETURN_IF_ERROR(difference(exec, x, start, added));
        FO_ASSIGN_OR_RETURN(change_, change(exec, added));
      }
      skipping_ =
          residual.valid() &&
          (spec_.probe == SkipProbe::kNone ? skip_asked_ : strategy.skip_model(step, change_));
      if (by_prefix && !skipping_) {
        FO_ASSIGN_OR_RETURN(const TensorView kept, room(probe_, x));
        FO_RETURN_IF_ERROR(backend_->copy(exec, {.src = added, .dst = kept}));
        has_probe_ = true;
      }
    }
    if (skipping_) {
      TaylorForecastParams f{.count = residual.count()};
      for (int m = 0; m < f.count; ++m) f.factors[m] = residual.factor(m);
      residual.coefficients(step.step, f.coefficients);
      f.residual = x;
      FO_RETURN_IF_ERROR(backend_->taylor_forecast(exec, f));
      ++passed_;
      return last_;
    }
    FO_ASSIGN_OR_RETURN(const TensorView entry, room(entry_, x));
    FO_RETURN_IF_ERROR(backend_->copy(exec, {.src = x, .dst = entry}));
  }
  if (layer == last_) {
    FO_ASSIGN_OR_RETURN(const TensorView entry, room(entry_, x));
    FO_ASSIGN_OR_RETURN(const TensorView added, room(difference_, x));
    FO_RETURN_IF_ERROR(difference(exec, x, entry, added));
    FO_RETURN_IF_ERROR(residual.refresh(*backend_, exec, added, step.step));
    ++passed_;
  }
  return layer;
}

}  // namespace flashomni

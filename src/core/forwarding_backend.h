// SPDX-License-Identifier: Apache-2.0
//
// What wrappers of a backend have in common: everything but the operations goes straight through.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/update_backend.h"
#include "flashomni/backend.h"

namespace flashomni {

class ForwardingBackend : public Backend, public UpdateBackend {
 public:
  // `inner` must outlive this.
  explicit ForwardingBackend(Backend& inner)
      : inner_(inner), inner_update_(dynamic_cast<UpdateBackend*>(&inner)) {}

  BackendInfo info() const override { return inner_.info(); }
  DType activation_dtype() const override { return inner_.activation_dtype(); }
  double measure_peak_flops() override { return inner_.measure_peak_flops(); }
  void set_scope(const std::string& name) override { inner_.set_scope(name); }
  size_t free_memory_bytes() const override { return inner_.free_memory_bytes(); }
  Result<std::unique_ptr<Buffer>> allocate(size_t bytes) override { return inner_.allocate(bytes); }
  Status synchronize(const Exec& e) override { return inner_.synchronize(e); }
  Result<int64_t> mark(const Exec& e) override { return inner_.mark(e); }
  Result<double> seconds_between(int64_t from, int64_t to) override {
    return inner_.seconds_between(from, to);
  }
  void clear_marks() override { inner_.clear_marks(); }
  Status upload(const Exec& e, void* dst, const void* src, size_t n) override {
    return inner_.upload(e, dst, src, n);
  }
  Status download(const Exec& e, void* dst, const void* src, size_t n) override {
    return inner_.download(e, dst, src, n);
  }
  Status begin_batch(const Exec& e) override { return inner_.begin_batch(e); }
  Result<BatchOutcome> end_batch() override { return inner_.end_batch(); }
  void forget_graphs() override { inner_.forget_graphs(); }
  Result<std::unique_ptr<Graph>> capture(const std::vector<QueuedOperation>& operations) override {
    return inner_.capture(operations);
  }
  Status launch(const Exec& e, const Graph& graph) override { return inner_.launch(e, graph); }
  Result<std::shared_ptr<const PackedWeight>> pack_weight(const WeightDesc& d) override {
    return inner_.pack_weight(d);
  }
  size_t workspace_bytes(const AttentionParams& p) const override {
    return inner_.workspace_bytes(p);
  }
  size_t workspace_bytes(const LinearParams& p) const override { return inner_.workspace_bytes(p); }
  size_t workspace_bytes(const GemmQParams& p) const override { return inner_.workspace_bytes(p); }
  size_t workspace_bytes(const GemmQkvParams& p) const override {
    return inner_.workspace_bytes(p);
  }
  size_t workspace_bytes(const GemmOParams& p) const override { return inner_.workspace_bytes(p); }
  Status supports(const AttentionParams& p) const override { return inner_.supports(p); }
  Status supports(const LinearParams& p) const override { return inner_.supports(p); }
  Status supports(const GemmQParams& p) const override { return inner_.supports(p); }
  Status supports(const GemmQkvParams& p) const override { return inner_.supports(p); }
  Status supports(const GemmOParams& p) const override { return inner_.supports(p); }
  Status supports(const GemmOUpdateParams& p) const override { return inner_.supports(p); }
  size_t plan_bytes(const SymbolGeometry& g) const override { return inner_.plan_bytes(g); }

  bool offers_update_work() const override {
    return inner_update_ && inner_update_->offers_update_work();
  }
  // REQUIRES of these: offers_update_work().
  Status plan_projections(const Exec& e, const PlanParams& p) override {
    return inner_update_->plan_projections(e, p);
  }
  Status plan_all(const Exec& e, std::span<const PlanParams> p) override {
    return inner_update_->plan_all(e, p);
  }
  Status count_all(const Exec& e, std::span<const CountSymbolsParams> p) override {
    return inner_update_->count_all(e, p);
  }
  Status taylor_slope(const Exec& e, const TaylorSlopeParams& p) override {
    return inner_update_->taylor_slope(e, p);
  }

 protected:
  Backend& inner_;               // NOLINT: for the wrappers' operations
  UpdateBackend* inner_update_;  // NOLINT: null where it has none
};

}  // namespace flashomni

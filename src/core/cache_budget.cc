// SPDX-License-Identifier: Apache-2.0
#include "core/cache_budget.h"

#include <algorithm>

#include "base/byte_size.h"

namespace flashomni {
namespace {

size_t tensor_bytes(const CacheRequest& r, int64_t rows, int64_t width) {
  return size_t(r.sequence.batch) * size_t(rows) * size_t(width) * dtype_bytes(r.dtype);
}

// Of one attention output.
size_t feature_bytes(const CacheRequest& r) {
  return tensor_bytes(r, r.sequence.tokens, int64_t{r.sequence.heads} * r.sequence.head_dim);
}

// With bias planes all layers share the memory of the highest factor, unless every factor is looked
// at between refreshes.
bool shares_last_factor(const CacheRequest& r, const CacheSpec& c) {
  return c.features && r.projected && !c.measure_forecast;
}

// Of one layer in one guidance stream.
size_t stream_bytes(const CacheRequest& r, const CacheSpec& c, const LayerDesc& layer) {
  size_t n = c.symbols ? r.symbol_bytes + r.plan_bytes : 0;
  const auto factors = static_cast<size_t>(c.order) + 1;
  if (c.features) {
    n += (shares_last_factor(r, c) ? factors - 1 : factors) * feature_bytes(r);
    if (r.projected) n += factors * tensor_bytes(r, r.sequence.tokens, layer.model_width);
  }
  if (c.residual && !c.project_cached) n += feature_bytes(r);
  if (c.degrade || c.modules) {
    for (const ModuleSite& site : layer.sites) {
      n += (static_cast<size_t>(c.degrade_order) + 1) * tensor_bytes(r, site.rows, site.width);
    }
  }
  return n;
}

// The highest Taylor order that something is kept in; none if all are 0.
int* highest_order(CachePlan& plan) {
  int* highest = nullptr;
  const auto consider = [&](bool used, int& order) {
    if (used && order > (highest ? *highest : 0)) highest = &order;
  };
  consider(plan.cache.features, plan.cache.order);
  consider(plan.cache.degrade || plan.cache.modules, plan.cache.degrade_order);
  consider(plan.skip.enabled, plan.skip.order);
  return highest;
}

}  // namespace

bool CachePlan::any_layer() const {
  return std::find(left_out.begin(), left_out.end(), false) != left_out.end();
}

size_t cache_bytes(const CacheRequest& r, const CachePlan& plan) {
  const CacheSpec& c = plan.cache;
  size_t n = 0;
  for (size_t i = 0; i < r.layers->size(); ++i) {
    if (plan.left_out[i]) continue;
    n += size_t(r.streams) * stream_bytes(r, c, (*r.layers)[i]);
    if (c.alias && r.streams > 1) n += feature_bytes(r);
  }
  if (shares_last_factor(r, c) && plan.any_layer()) n += feature_bytes(r);
  if (plan.skip.enabled && !r.layers->empty()) {
    n += size_t(r.streams) * (static_cast<size_t>(plan.skip.order) + 1) *
         tensor_bytes(r, r.sequence.tokens, r.layers->front().model_width);
  }
  return n;
}

CachePlan fit_cache(const CacheRequest& r, size_t limit) {
  CachePlan plan{.cache = r.cache,
                 .skip = r.skip,
                 .left_out = std::vector<bool>(r.layers->size(), false),
                 .report = {}};
  CacheBudget& report = plan.report;
  report.limit = limit;
  report.wanted = report.planned = cache_bytes(r, plan);
  const auto fits = [&] {
    report.planned = cache_bytes(r, plan);
    return report.planned <= limit;
  };
  while (!fits()) {
    int* order = highest_order(plan);
    if (!order) break;
    --*order;
  }
  for (size_t i = 0; i < plan.left_out.size() && !fits(); ++i) {
    // A layer that keeps nothing gains nothing.
    if (stream_bytes(r, plan.cache, (*r.layers)[i]) == 0 && !plan.cache.alias) continue;
    plan.left_out[i] = true;
    report.left_out.push_back(static_cast<int>(i));
  }
  if (!fits()) {
    plan.skip.enabled = false;
    report.skip_left_out = true;
    (void)fits();
  }
  report.order_wanted = r.cache.features ? r.cache.order : 0;
  report.order = r.cache.features ? plan.cache.order : 0;
  const bool modules = r.cache.degrade || r.cache.modules;
  report.module_order_wanted = modules ? r.cache.degrade_order : 0;
  report.module_order = modules ? plan.cache.degrade_order : 0;
  report.skip_order_wanted = r.skip.enabled ? r.skip.order : 0;
  report.skip_order = r.skip.enabled ? plan.skip.order : 0;
  return plan;
}

std::string over_budget(size_t limit) {
  return "does not fit into the budget of " + byte_size_text(limit);
}

}  // namespace flashomni

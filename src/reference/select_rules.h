// SPDX-License-Identifier: Apache-2.0
//
// The rules that turn a row of non-negative weights (normally a softmax) into kept and dropped
// entries. Among equal weights the smaller index comes first in every order: it is dropped first by
// a rule that drops and kept first by a rule that keeps.
#pragma once

#include <cstdint>
#include <vector>

namespace flashomni::reference {

// exp(x - max) / sum. -inf entries become 0. REQUIRES a finite entry.
template <class Real>
std::vector<Real> softmax(const std::vector<Real>& x);

// All rules return 1 = keep, 0 = drop for every entry of p.

// Drops the smallest entries while their sum is <= theta, but never the last one left.
// theta = 0 still drops entries that are exactly 0, a negative one drops nothing. (FlashOmni)
template <class Real>
std::vector<uint8_t> drop_cdf(const std::vector<Real>& p, double theta);

// Keeps the largest entries while their sum is <= tau, at least one: the entry that crosses tau is
// not kept. (SpargeAttn)
template <class Real>
std::vector<uint8_t> keep_cdf_lt(const std::vector<Real>& p, double tau);

// Keeps the largest entries until their sum reaches tau, at least one: the entry that crosses tau
// is kept. (XAttention, Sparse VideoGen 2)
template <class Real>
std::vector<uint8_t> keep_cdf_ge(const std::vector<Real>& p, double tau);

// Keeps the k largest entries; all of them if there are no more, none if k <= 0.
template <class Real>
std::vector<uint8_t> keep_top_k(const std::vector<Real>& p, int k);

}  // namespace flashomni::reference

// SPDX-License-Identifier: Apache-2.0
#include "core/gemm_qkv_check.h"

#include <string>

namespace flashomni {
namespace {

bool same_tensor(const TensorView& a, const TensorView& b) {
  bool same = a.data == b.data && a.dtype == b.dtype && a.rank == b.rank;
  for (int i = 0; same && i < a.rank; ++i) {
    same = a.size(i) == b.size(i) && a.stride[i] == b.stride[i];
  }
  return same;
}

Status wanted_as_q(const char* what, const char* name, const std::string& seen,
                   const std::string& want) {
  return invalid_argument(std::string(what) + " of " + name + " is " + seen +
                          ", wanted that of q, " + want);
}

}  // namespace

Status check_gemm_qkv_agreement(const GemmQkvParams& params) {
  const GemmQParams& q = params.q;
  for (const GemmQParams* p : {&params.k, &params.v}) {
    const char* name = p == &params.k ? "k" : "v";
    if (!same_tensor(p->x, q.x)) {
      return wanted_as_q("x", name, p->x.to_string(), q.x.to_string());
    }
    if (p->token_offset != q.token_offset) {
      return wanted_as_q("token_offset", name, std::to_string(p->token_offset),
                         std::to_string(q.token_offset));
    }
    if (p->out.size(3) != q.out.size(3)) {
      return wanted_as_q("head_dim", name, std::to_string(p->out.size(3)),
                         std::to_string(q.out.size(3)));
    }
    if (p->symbols.c || p->symbols.s) {
      return invalid_argument(std::string("symbols of ") + name + " are given, wanted none");
    }
  }
  return ok_status();
}

}  // namespace flashomni

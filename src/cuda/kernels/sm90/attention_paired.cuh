// SPDX-License-Identifier: Apache-2.0
//
// The computing side for query blocks of 64 rows: two blocks of one head, one a warpgroup, over the
// kv tiles that either of them needs. A warpgroup passes over tiles that only the other one needs,
// so the two run at their own pace as far as the ring allows and take no turns.
#pragma once

#include "cuda/kernels/sm90/attention_consumer.cuh"

namespace flashomni::cuda::sm90 {

template <class T, int kHeadDim, int kBlockKv, class Pace>
class PairedConsumer : ConsumerBase<T, kHeadDim, kBlockKv, true, Pace> {
  using Base = ConsumerBase<T, kHeadDim, kBlockKv, true, Pace>;
  using Base::args_, Base::bars_, Base::group_, Base::kOut, Base::kScores, Base::kWeightSteps;
  using Base::finish, Base::issue_output, Base::issue_scores, Base::keep_operands,
      Base::release_query, Base::release_tile, Base::store_output, Base::take_tile, Base::tiles_of,
      Base::wait_query;

 public:
  __device__ __forceinline__ PairedConsumer(const AttentionArgs& args, char* smem,
                                            AttentionBarriers& bars, int group)
      : Base(args, smem, bars, group) {}

  __device__ __forceinline__ void run() {
    const WorkList list(args_, blockIdx.x);
    const int entries = list.size();
    if (entries == 0) return;
    AttentionWork next = list.at(0);
    for (int entry = 0; entry < entries; ++entry) {
      const AttentionWork work = next;
      next = list.at(min(entry + 1, entries - 1));
      query_tile(work, entry, entry + 1 == entries);
    }
    if (warpgroup_leader()) tma_store_wait();
  }

 private:
  __device__ __forceinline__ void query_tile(const AttentionWork& work, int entry, bool last) {
    const int row = group_ == 0 ? work.row0 : work.row1;
    float s[kScores], o[kOut];
    uint32_t p[kWeightSteps][4];
    SoftmaxRows rows = {{-INFINITY, -INFINITY}, {0, 0}};
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i] = 0;
    bool pending = false;  // p holds weights whose values are still to come
    bool first = true;     // no scores yet

    wait_query(entry);
    const int tiles = tiles_of(work);
    for (int t = 0; t < tiles; ++t) {
      const int k = take_tile();
      const int wanted = row < 0 ? 0 : bars_.wanted[k] >> (2 * group_) & 3;
      if (wanted && pending) {
        both(s, o, p, rows, entry & 1, k, wanted);
      } else if (wanted) {
        scores_only(s, o, p, rows, entry & 1, k, wanted, first);
        if (t > 0) release_tile(take_tile());
      } else {
        release_tile(k);
        if (pending) {
          output_only(o, p);
        } else if (t > 0) {
          release_tile(take_tile());
        }
      }
      pending = wanted != 0;
      first = first && !wanted;
    }
    if (pending) {
      output_only(o, p);
    } else {
      release_tile(take_tile());
    }
    warpgroup_sync(group_);  // every warp has finished with the queries
    if (row >= 0) finish(work, row, o, rows, entry, last);
    store_output();
    held_ = entry & 1;
    release_query();
  }

  __device__ __forceinline__ void mask(float (&s)[kScores], int slot, int wanted) const {
    const int valid = bars_.valid[slot];
    if (wanted == 3 && valid >= kKvRows) return;
    mask_columns(s, wanted & 1 ? 0 : 64, min(valid, wanted & 2 ? 128 : 64));
  }

  __device__ __forceinline__ void both(float (&s)[kScores], float (&o)[kOut],
                                       uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                       int buffer, int k, int wanted) {
    keep_operands(o, p);
    issue_scores(s, buffer, k);
    const int v = take_tile();
    issue_output(o, p, true, v);
    wgmma_wait<1>();
    wgmma_keep(s);
    mask(s, k, wanted);
    release_tile(k);
    float alpha[2];
    const bool rescale = softmax_next(s, rows, args_.scale_log2, alpha);
    wgmma_wait<0>();
    wgmma_keep(s);
    wgmma_keep(o);
    release_tile(v);
    if (rescale) scale_rows(o, alpha);
    pack_weights<T>(s, p);
  }

  __device__ __forceinline__ void scores_only(float (&s)[kScores], float (&o)[kOut],
                                              uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                              int buffer, int k, int wanted, bool first) {
    issue_scores(s, buffer, k);
    wgmma_wait<0>();
    wgmma_keep(s);
    mask(s, k, wanted);
    release_tile(k);
    if (first) {
      softmax_first(s, rows, args_.scale_log2);
    } else {
      float alpha[2];
      if (softmax_next(s, rows, args_.scale_log2, alpha)) scale_rows(o, alpha);
    }
    pack_weights<T>(s, p);
  }

  __device__ __forceinline__ void output_only(float (&o)[kOut], uint32_t (&p)[kWeightSteps][4]) {
    const int v = take_tile();
    keep_operands(o, p);
    issue_output(o, p, true, v);
    wgmma_wait<0>();
    wgmma_keep(o);
    release_tile(v);
  }

  using Base::held_;
};

}  // namespace flashomni::cuda::sm90

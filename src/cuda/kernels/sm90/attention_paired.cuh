// SPDX-License-Identifier: Apache-2.0
//
// The computing side for query blocks of 64 rows: two blocks of one head, one a warpgroup, over the
// kv tiles that either of them needs. A warpgroup passes over tiles that only the other one needs,
// so the two run at their own pace as far as the ring allows and take no turns. Of a tile of two kv
// blocks it multiplies by those that it needs: at 75 % of random skips half of the tiles that a
// warpgroup takes are half a tile to it.
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
  // Halves of a tile, in the bits of AttentionBarriers::wanted.
  static constexpr int kBoth = 3;
  // Whether half tiles are multiplied as such. With smaller heads ptxas (CUDA 13.0) finds no
  // registers for the mixture of products and would serialize them: there a whole tile is, and
  // masked.
  static constexpr bool kHalves = kBlockKv < kKvRows && kHeadDim == 128;

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
  // What the loading warp says of a tile. The lane that reads it is the one that gives the slot
  // back.
  __device__ __forceinline__ int wanted_of(int slot) const {
    return uniform(threadIdx.x % 32 == 0 ? bars_.wanted[slot] >> (2 * group_) & 3 : 0);
  }
  __device__ __forceinline__ int valid_of(int slot) const {
    return uniform(threadIdx.x % 32 == 0 ? bars_.valid[slot] : 0);
  }

  __device__ __forceinline__ void query_tile(const AttentionWork& work, int entry, bool last) {
    const int row = group_ == 0 ? work.row0 : work.row1;
    float s[kScores], o[kOut];
    uint32_t p[kWeightSteps][4];
    SoftmaxRows rows = {{-INFINITY, -INFINITY}, {0, 0}};
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i] = 0;
    int pending = 0;    // halves of the tile whose weights p holds and whose values are to come
    bool first = true;  // no scores yet

    wait_query(entry);
    const int tiles = tiles_of(work);
    for (int t = 0; t < tiles; ++t) {
      const int k = take_tile();
      const int wanted = row < 0 ? 0 : wanted_of(k);
      if (wanted && pending) {
        if (!kHalves || wanted == kBoth) {
          if (!kHalves || pending == kBoth) {
            both<true, true>(s, o, p, rows, entry & 1, k, wanted, pending);
          } else {
            both<true, false>(s, o, p, rows, entry & 1, k, wanted, pending);
          }
        } else if (pending == kBoth) {
          both<false, true>(s, o, p, rows, entry & 1, k, wanted, pending);
        } else {
          both<false, false>(s, o, p, rows, entry & 1, k, wanted, pending);
        }
      } else if (wanted) {
        if (!kHalves || wanted == kBoth) {
          scores_only<true>(s, o, p, rows, entry & 1, k, wanted, first);
        } else {
          scores_only<false>(s, o, p, rows, entry & 1, k, wanted, first);
        }
        if (t > 0) release_tile(take_tile());
      } else {
        release_tile(k);
        if (pending) {
          output_of(pending, o, p);
        } else if (t > 0) {
          release_tile(take_tile());
        }
      }
      pending = wanted;
      first = first && !wanted;
    }
    if (pending) {
      output_of(pending, o, p);
    } else {
      release_tile(take_tile());
    }
    warpgroup_sync(group_);  // every warp has finished with the queries
    if (row >= 0) finish(work, row, o, rows, entry, last);
    store_output();
    held_ = entry & 1;
    release_query();
  }

  // Registers of a whole tile's scores or weights, or the first ones for half a tile's.
  template <bool kWhole>
  using Scores = float[kWhole ? kScores : kScores / 2];
  template <bool kWhole>
  using Weights = uint32_t[kWhole ? kWeightSteps : kWeightSteps / 2][4];
  template <bool kWhole>
  static __device__ __forceinline__ Scores<kWhole>& scores_of(float (&s)[kScores]) {
    return *reinterpret_cast<Scores<kWhole>*>(s);
  }
  template <bool kWhole>
  static __device__ __forceinline__ Weights<kWhole>& weights_of(uint32_t (&p)[kWeightSteps][4]) {
    return *reinterpret_cast<Weights<kWhole>*>(p);
  }

  static __device__ __forceinline__ int begin_of(int halves) {
    return halves == 2 ? kKvRows / 2 : 0;
  }

  template <bool kWhole>
  __device__ __forceinline__ void begin_scores(float (&s)[kScores], int buffer, int k, int halves) {
    const int begin = kWhole ? 0 : begin_of(halves);
    issue_scores<kWhole ? kKvRows : kKvRows / 2>(scores_of<kWhole>(s), buffer, k, begin);
  }
  template <bool kWhole>
  __device__ __forceinline__ void begin_output(float (&o)[kOut], uint32_t (&p)[kWeightSteps][4],
                                               int v, int halves) {
    const int begin = kWhole ? 0 : begin_of(halves);
    issue_output<kWhole ? kWeightSteps : kWeightSteps / 2>(o, weights_of<kWhole>(p), true, v,
                                                           begin);
  }

  // What is not wanted, and what lies past the end of the sequence.
  template <bool kWhole>
  __device__ __forceinline__ void mask(Scores<kWhole>& s, int valid, int wanted) const {
    if constexpr (!kWhole) {
      const int left = valid - begin_of(wanted);
      if (left < kKvRows / 2) mask_columns(s, 0, left);
    } else if (wanted != kBoth || valid < kKvRows) {
      mask_columns(s, begin_of(wanted), min(valid, wanted & 2 ? kKvRows : kKvRows / 2));
    }
  }

  // Scores of kv tile k beside the output product of the tile before it.
  template <bool kWholeK, bool kWholeV>
  __device__ __forceinline__ void both(float (&s)[kScores], float (&o)[kOut],
                                       uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                       int buffer, int k, int wanted, int pending) {
    auto& scores = scores_of<kWholeK>(s);
    keep_operands(o, p);
    begin_scores<kWholeK>(s, buffer, k, wanted);
    const int v = take_tile();
    begin_output<kWholeV>(o, p, v, pending);
    wgmma_wait<1>();
    wgmma_keep(scores);
    mask<kWholeK>(scores, kKvRows, wanted);  // no entry's first tile
    release_tile(k);
    float alpha[2];
    const bool rescale = softmax_next(scores, rows, args_.scale_log2, alpha);
    wgmma_wait<0>();
    wgmma_keep(scores);
    wgmma_keep(o);
    release_tile(v);
    if (rescale) scale_rows(o, alpha);
    pack_weights<T>(scores, weights_of<kWholeK>(p));
  }

  template <bool kWhole>
  __device__ __forceinline__ void scores_only(float (&s)[kScores], float (&o)[kOut],
                                              uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                              int buffer, int k, int wanted, bool first) {
    auto& scores = scores_of<kWhole>(s);
    begin_scores<kWhole>(s, buffer, k, wanted);
    wgmma_wait<0>();
    wgmma_keep(scores);
    mask<kWhole>(scores, valid_of(k), wanted);
    release_tile(k);
    if (first) {
      softmax_first(scores, rows, args_.scale_log2);
    } else {
      float alpha[2];
      if (softmax_next(scores, rows, args_.scale_log2, alpha)) scale_rows(o, alpha);
    }
    pack_weights<T>(scores, weights_of<kWhole>(p));
  }

  __device__ __forceinline__ void output_of(int pending, float (&o)[kOut],
                                            uint32_t (&p)[kWeightSteps][4]) {
    if (!kHalves || pending == kBoth) {
      output_only<true>(o, p, pending);
    } else {
      output_only<false>(o, p, pending);
    }
  }
  template <bool kWhole>
  __device__ __forceinline__ void output_only(float (&o)[kOut], uint32_t (&p)[kWeightSteps][4],
                                              int pending) {
    const int v = take_tile();
    keep_operands(o, p);
    begin_output<kWhole>(o, p, v, pending);
    wgmma_wait<0>();
    wgmma_keep(o);
    release_tile(v);
  }

  using Base::held_;
};

}  // namespace flashomni::cuda::sm90

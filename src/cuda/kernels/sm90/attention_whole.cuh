// SPDX-License-Identifier: Apache-2.0
//
// The computing side for query blocks of 128 rows, both warpgroups on the same kv tiles.
//
// Inside a query tile the scores of kv tile j + 1 are issued together with the output product of
// tile j, and the two warpgroups take turns on the tensor cores, so that one computes exponentials
// while the other multiplies. The first scores of the next query tile are issued with the last
// output product of this one in the same way: tile borders do not drain the tensor cores, which is
// what keeps short rows as efficient as long ones.
#pragma once

#include "cuda/kernels/sm90/attention_consumer.cuh"

namespace flashomni::cuda::sm90 {

// One of the two computing warpgroups and all that it holds in registers.
template <class T, int kHeadDim, int kBlockKv, class Pace>
class Consumer : ConsumerBase<T, kHeadDim, kBlockKv, false, Pace> {
  using Base = ConsumerBase<T, kHeadDim, kBlockKv, false, Pace>;
  using Base::args_, Base::bars_, Base::group_, Base::kOut, Base::kScores, Base::kWeightSteps;
  using Base::finish, Base::issue_output, Base::issue_scores, Base::keep_operands,
      Base::release_query, Base::release_tile, Base::store_output, Base::take_tile, Base::tiles_of,
      Base::wait_query;

 public:
  __device__ __forceinline__ Consumer(const AttentionArgs& args, char* smem,
                                      AttentionBarriers& bars, int group)
      : Base(args, smem, bars, group) {}

  __device__ __forceinline__ void run() {
    const WorkList list(args_, blockIdx.x);
    const int entries = list.size();
    if (entries == 0) return;

    float s[kScores], o[kOut];
    uint32_t p[kWeightSteps][4];
    SoftmaxRows rows;
    AttentionWork work = list.at(0);
    AttentionWork next = list.at(min(1, entries - 1));
    const uint32_t word = last_word(work);
    uint32_t next_word = last_word(next);
    // The first warpgroup goes first.
    if (group_ == 1) named_barrier_arrive(1, 2 * kWarpgroup);

    wait_query(0);
    const int k = take_tile();
    issue_scores(s, 0, k);
    wgmma_wait<0>();
    wgmma_keep(s);
    release_tile(k);
    first_softmax(s, rows, first_rows(work, word));
    pack_weights<T>(s, p);

    int entry = 0;
    while (true) {
      const int tiles = tiles_of(work);
      const int buffer = entry & 1;
      if (tiles > 1) step<true>(s, o, p, rows, buffer);
      for (int j = 2; j < tiles; ++j) step<false>(s, o, p, rows, buffer);
      if (entry + 1 == entries) break;

      // Loaded here, wanted at the next border.
      const AttentionWork after = list.at(min(entry + 2, entries - 1));
      SoftmaxRows next_rows;
      // Without these two the compiler takes the ring's position for one that differs between
      // lanes, and moves every descriptor through ordinary registers (5 % of the speed).
      __syncwarp();
      border(s, o, p, next_rows, entry, tiles > 1, first_rows(next, next_word));
      finish(work, work.row0, o, rows, entry, false);
      // A tile of one step wants the other buffer's next queries at once.
      if (tiles_of(next) == 1) {
        store_output();
        release_query();
      }
      __syncwarp();
      work = next;
      next = after;
      next_word = last_word(next);
      rows = next_rows;
      ++entry;
    }
    const int v = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_output(o, p, tiles_of(work) > 1, v);
    give_turn();
    wgmma_wait<0>();
    wgmma_keep(o);
    finish(work, work.row0, o, rows, entry, true);
    store_output();
    if (warpgroup_leader()) tma_store_wait();
  }

 private:
  // The word of S_s that says whether an entry's first tile holds the sequence's last block, the
  // only one that may be short. Asked for one entry ahead of first_rows().
  __device__ __forceinline__ uint32_t last_word(const AttentionWork& work) const {
    if (work.skip > 0) return 0;  // the row's highest block is another piece's
    if (!args_.s) return ~0u;
    const uint32_t* words =
        reinterpret_cast<const uint32_t*>(args_.s + int64_t{work.row0} * args_.s_words);
    return __ldg(words + (args_.num_kv_blocks - 1) / 32);
  }
  // Rows of an entry's first tile that exist; all do in those after it. Found here rather than told
  // by the loading warp: see KvStream::next().
  __device__ __forceinline__ int first_rows(const AttentionWork& work, uint32_t word) const {
    const int last = args_.num_kv_blocks - 1;
    const int rows = word >> (last % 32) & 1 ? args_.kv_tokens - last * kBlockKv : kBlockKv;
    return kBlockKv < kKvRows && work.count % 2 == 0 ? kBlockKv + rows : rows;
  }

  // Between the warpgroups: whoever holds the turn issues products.
  __device__ __forceinline__ void take_turn() { named_barrier_sync(1 + group_, 2 * kWarpgroup); }
  __device__ __forceinline__ void give_turn() { named_barrier_arrive(2 - group_, 2 * kWarpgroup); }

  __device__ __forceinline__ void first_softmax(float (&s)[kScores], SoftmaxRows& rows, int valid) {
    if (valid < kKvRows) mask_columns(s, 0, valid);
    softmax_first(s, rows, args_.scale_log2);
  }

  // Scores of the next kv tile beside the output product of this one. The first step of a query
  // tile also sends off the tile before it; the others hold no branch that could keep the compiler
  // from mixing exponentials and waiting (5 % of the speed at long rows).
  template <bool kFirst>
  __device__ __forceinline__ void step(float (&s)[kScores], float (&o)[kOut],
                                       uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                       int buffer) {
    const int k = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_scores(s, buffer, k);
    const int v = take_tile();
    issue_output(o, p, !kFirst, v);
    give_turn();
    if constexpr (kFirst) store_output();
    wgmma_wait<1>();
    wgmma_keep(s);
    release_tile(k);
    float alpha[2];
    const bool rescale = softmax_next(s, rows, args_.scale_log2, alpha);
    pin(rows.sum[0] + rows.sum[1], &bars_.pinned);
    wgmma_wait<0>();
    wgmma_keep(s);
    wgmma_keep(o);
    release_tile(v);
    if (rescale) scale_rows(o, alpha);
    pack_weights<T>(s, p);
    if constexpr (kFirst) release_query();
  }

  // The same across the border of two query tiles.
  __device__ __forceinline__ void border(float (&s)[kScores], float (&o)[kOut],
                                         uint32_t (&p)[kWeightSteps][4], SoftmaxRows& next,
                                         int entry, bool accumulate, int valid) {
    wait_query(entry + 1);
    const int k = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_scores(s, (entry + 1) & 1, k);
    const int v = take_tile();
    issue_output(o, p, accumulate, v);
    give_turn();
    wgmma_wait<1>();
    wgmma_keep(s);
    release_tile(k);
    first_softmax(s, next, valid);
    pin(next.sum[0] + next.sum[1], &bars_.pinned);
    wgmma_wait<0>();
    wgmma_keep(s);
    wgmma_keep(o);
    release_tile(v);
    pack_weights<T>(s, p);
  }
};

}  // namespace flashomni::cuda::sm90

// SPDX-License-Identifier: Apache-2.0
//
// Layout of the attention part of a plan, and its builder on the host: slow, plain, and what the
// kernels of the same name are checked against.
#include "cuda/attention_plan.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "cuda/kernels/plan/attention_plan.h"

namespace flashomni::cuda {
namespace {

constexpr size_t kPartAlignment = 256;
// Keys and values of this many bytes stay in the L2 cache (50 MB on an H100) while the query blocks
// of their heads pass.
constexpr int64_t kL2GroupBytes = 32 << 20;
// Ranking the tiles of a group compares each with each.
constexpr int64_t kMaxGroupTiles = 1024;

size_t align_part(size_t bytes) {
  return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

struct Tile {
  int32_t row0 = 0;
  int32_t row1 = -1;
  int32_t count = 0;  // kv blocks
  int32_t steps = 0;
  int64_t cost() const { return int64_t{kCostPerStep} * steps + kCostPerTile; }
};

// The symbols as the builder asks for them.
class Rows {
 public:
  Rows(const SymbolGeometry& g, const uint64_t* c, const uint64_t* s) : g_(g), c_(c), s_(s) {}

  // Kv blocks of row `a`, or of either row.
  int32_t count(int64_t a, int64_t b = -1) const {
    if (!s_) return g_.num_kv_blocks();
    int32_t n = 0;
    for (int w = 0; w < g_.s_words(); ++w) {
      const uint64_t other = b < 0 ? 0 : s_[b * g_.s_words() + w];
      n += std::popcount(s_[a * g_.s_words() + w] | other);
    }
    return n;
  }
  bool active(int64_t row) const {
    const int64_t nq = g_.num_q_blocks();
    if (c_ && !get_bit(c_ + row / nq * g_.c_words(), row % nq)) return false;
    return count(row) > 0;
  }

 private:
  const SymbolGeometry& g_;
  const uint64_t* c_;
  const uint64_t* s_;
};

// Tiles of one head, in row order, or paired.
std::vector<Tile> tiles_of_head(const SymbolGeometry& g, const Rows& rows, int head, bool pairs) {
  const int64_t first = int64_t{head} * g.num_q_blocks();
  std::vector<Tile> singles;
  for (int64_t row = first; row < first + g.num_q_blocks(); ++row) {
    if (rows.active(row)) singles.push_back({static_cast<int32_t>(row), -1, rows.count(row)});
  }
  if (!pairs) return singles;
  std::ranges::stable_sort(singles, std::greater{}, &Tile::count);
  std::vector<Tile> tiles;
  for (size_t i = 0; i < singles.size(); i += 2) {
    Tile tile = singles[i];
    if (i + 1 < singles.size()) {
      tile.row1 = singles[i + 1].row0;
      tile.count = rows.count(tile.row0, tile.row1);
    }
    tiles.push_back(tile);
  }
  return tiles;
}

// A place on the line of left-over tiles: after the first `steps` steps of tile `tile`.
struct Cut {
  int64_t tile = 0;
  int32_t steps = 0;
};

// Where the shares of the CTAs end on the line; cut[c] .. cut[c + 1] belongs to CTA c. Every cut
// inside a tile leaves at least one step on both sides, also of the next cut inside it.
std::vector<Cut> cut_line(const std::vector<Tile>& line, const std::vector<int64_t>& room,
                          int64_t slack) {
  const int64_t tiles = static_cast<int64_t>(line.size());
  std::vector<Cut> cuts(room.size() + 1);
  int64_t position = 0;  // of the cut
  int64_t start = 0;     // of the tile
  int64_t tile = 0;
  for (size_t c = 1; c < cuts.size(); ++c) {
    position += room[c - 1];
    while (tile < tiles && start + line[size_t(tile)].cost() <= position) {
      start += line[size_t(tile++)].cost();
    }
    Cut cut{tile, 0};
    if (tile < tiles) {
      const int64_t before = position - start;
      if (line[size_t(tile)].cost() - before <= slack) {
        cut.tile = before <= slack ? tile : tile + 1;
      } else if (before > slack) {
        cut.steps = static_cast<int32_t>(before / kCostPerStep);
      }
    }
    const Cut& last = cuts[c - 1];
    if (cut.tile < last.tile) {
      cut = last;
    } else if (cut.tile == last.tile && last.steps > 0 && cut.steps <= last.steps) {
      cut.steps = last.steps + 1;
      if (cut.steps >= line[size_t(cut.tile)].steps) cut = {cut.tile + 1, 0};
    }
    cuts[c] = cut;
  }
  return cuts;
}

using Lists = std::vector<std::vector<AttentionWork>>;

AttentionWork work(const Tile& tile, int32_t skip, int32_t count, int32_t merge) {
  return {tile.row0, tile.row1, skip, count, merge, {0, 0, 0}};
}

// Who got which tile, and what that adds up to.
struct Dealt {
  int64_t rounds = 0;
  std::vector<size_t> cta;    // of every tile of those rounds
  std::vector<int64_t> load;  // of every CTA
};

Dealt deal_rounds(const std::vector<Tile>& tiles, size_t grid, const PlanShare& share) {
  Dealt dealt;
  std::vector<int64_t> load(grid);
  std::vector<size_t> order(grid);
  bool fits = true;
  const int all_rounds = static_cast<int>((tiles.size() + grid - 1) / grid);
  for (int r = 0; r < all_rounds;) {
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, {}, [&](size_t c) { return load[c]; });
    const std::vector<int64_t> before = load;
    const int turn = plan_turn_rounds(all_rounds - r);
    for (const int end = r + turn; r < end; ++r) {
      const size_t first = static_cast<size_t>(r) * grid;
      for (size_t k = 0; k < std::min(grid, tiles.size() - first); ++k) {
        load[order[k]] += tiles[first + k].cost();
        dealt.cta.push_back(order[k]);
      }
    }
    if (fits && std::ranges::max(load) > share.share) {
      fits = false;
      dealt.load = before;
    }
    if (fits) dealt.rounds = r;
  }
  if (std::ranges::max(load) <= share.share + share.slack) {
    dealt.load = load;
    dealt.rounds = all_rounds;
  }
  return dealt;
}

Lists deal(const std::vector<Tile>& tiles, int grid, int blocks_per_step) {
  const auto before = [&](const Tile& tile, int32_t steps) {
    return plan_blocks_before(steps, tile.count, blocks_per_step);
  };
  int64_t total = 0;
  for (const Tile& tile : tiles) total += tile.cost();
  const PlanShare share = plan_share(total, grid);
  const Dealt rounds = deal_rounds(tiles, static_cast<size_t>(grid), share);
  const size_t dealt = std::min(tiles.size(), static_cast<size_t>(rounds.rounds * grid));
  const std::vector<Tile> line(tiles.begin() + static_cast<std::ptrdiff_t>(dealt), tiles.end());
  std::vector<int64_t> room;
  for (int64_t l : rounds.load) room.push_back(std::max<int64_t>(0, share.share - l));
  const std::vector<Cut> cuts = cut_line(line, room, share.slack);

  Lists lists(static_cast<size_t>(grid));
  for (size_t c = 0; c < lists.size(); ++c) {
    std::vector<AttentionWork>& list = lists[c];
    const Cut from = cuts[c], to = cuts[c + 1];
    int64_t next = from.tile;
    if (from.steps > 0) {
      const Tile& tile = line[size_t(next++)];
      const int32_t skip = before(tile, from.steps);
      const int32_t end = to.tile == from.tile ? before(tile, to.steps) : tile.count;
      list.push_back(work(tile, skip, end - skip, AttentionWork::kPartial));
    }
    for (size_t t = 0; t < dealt; ++t) {
      if (rounds.cta[t] != c) continue;
      list.push_back(work(tiles[t], 0, tiles[t].count, AttentionWork::kWhole));
    }
    for (; next < to.tile; ++next) {
      const Tile& tile = line[size_t(next)];
      list.push_back(work(tile, 0, tile.count, AttentionWork::kWhole));
    }
    if (to.steps > 0 && next == to.tile) {
      int32_t merge = 0;
      while (cuts[c + 1 + size_t(merge)].tile == to.tile && cuts[c + 1 + size_t(merge)].steps > 0) {
        ++merge;
      }
      const Tile& tile = line[size_t(to.tile)];
      list.push_back(work(tile, 0, before(tile, to.steps), merge));
    }
  }
  return lists;
}

}  // namespace

AttentionPlanShape::AttentionPlanShape(const SymbolGeometry& geometry, int head_dim) {
  pairs = geometry.block_q < kTileRows;
  heads = geometry.batch * geometry.heads;
  const int nq = geometry.num_q_blocks();
  tiles_per_head = pairs ? (nq + 1) / 2 : nq;
  const int64_t head_bytes = int64_t{4} * geometry.kv_tokens * head_dim;  // K and V, 16 bit
  const int64_t fitting =
      std::min(kL2GroupBytes / std::max<int64_t>(1, head_bytes), kMaxGroupTiles / tiles_per_head);
  const int64_t least = (int64_t{heads} + kMaxPlanGroups - 1) / kMaxPlanGroups;
  heads_per_group =
      static_cast<int>(std::min<int64_t>(heads, std::max({int64_t{1}, fitting, least})));
  groups = (heads + heads_per_group - 1) / heads_per_group;
}

AttentionPlanLayout::AttentionPlanLayout(const SymbolGeometry& geometry, int grid) {
  const AttentionPlanShape shape(geometry, kTileRows);
  const size_t tiles = static_cast<size_t>(shape.tiles());
  const size_t rows =
      static_cast<size_t>(shape.heads) * static_cast<size_t>(geometry.num_q_blocks());
  const size_t ctas = static_cast<size_t>(grid);
  header = 0;
  offsets = align_part(sizeof(AttentionPlanHeader));
  work = align_part(offsets + sizeof(int32_t) * (ctas + 1));
  flags = align_part(work + sizeof(AttentionWork) * (tiles + 2 * ctas));
  scratch = align_part(flags + sizeof(int32_t) * 2 * ctas);
  // See AttentionPlanScratch beside the kernels.
  size_t scratch_bytes = sizeof(int64_t) * (tiles + 1);  // start
  scratch_bytes += sizeof(int32_t) * 2 * tiles;          // tile rows
  // Counts, blocks, places, groups.
  scratch_bytes += sizeof(int32_t) * (3 * tiles + ctas + kMaxPlanGroups);
  if (shape.pairs) scratch_bytes += sizeof(int32_t) * (rows + static_cast<size_t>(shape.heads));
  bytes = align_part(scratch + scratch_bytes);
}

Status check_attention_plan(const SymbolGeometry& geometry, int grid) {
  FO_RETURN_IF_ERROR(geometry.validate());
  if (geometry.block_q != 64 && geometry.block_q != 128) {
    return unsupported("block_q is " + std::to_string(geometry.block_q) +
                       ", wanted 64 or 128 on a GPU");
  }
  if (geometry.block_kv != 64 && geometry.block_kv != 128) {
    return unsupported("block_kv is " + std::to_string(geometry.block_kv) +
                       ", wanted 64 or 128 on a GPU");
  }
  const int most = std::max(geometry.num_q_blocks(), geometry.num_kv_blocks());
  if (most > kMaxPlanBlocks) {
    return unsupported("number of blocks is " + std::to_string(most) + ", wanted at most " +
                       std::to_string(kMaxPlanBlocks) + " in a plan");
  }
  if (grid < 1 || grid > kMaxPlanGrid) {
    return invalid_argument("grid is " + std::to_string(grid) + ", wanted 1.." +
                            std::to_string(kMaxPlanGrid));
  }
  return ok_status();
}

void build_attention_plan_on_host(const SymbolGeometry& geometry, const uint64_t* c,
                                  const uint64_t* s, int grid, int head_dim, void* section) {
  const AttentionPlanShape shape(geometry, head_dim);
  const AttentionPlanLayout layout(geometry, grid);
  const Rows rows(geometry, c, s);
  std::vector<Tile> tiles;
  AttentionPlanHeader header{};
  header.grid = grid;
  for (int group = 0; group < shape.groups; ++group) {
    const int first = group * shape.heads_per_group;
    std::vector<Tile> of_group;
    for (int head = first; head < std::min(shape.heads, first + shape.heads_per_group); ++head) {
      const std::vector<Tile> of_head = tiles_of_head(geometry, rows, head, shape.pairs);
      of_group.insert(of_group.end(), of_head.begin(), of_head.end());
    }
    std::ranges::stable_sort(of_group, std::greater{}, &Tile::count);
    tiles.insert(tiles.end(), of_group.begin(), of_group.end());
  }
  const int blocks_per_step = plan_blocks_per_step(geometry);
  for (Tile& tile : tiles) {
    tile.steps = plan_steps(tile.count, blocks_per_step);
    header.num_rows += tile.row1 >= 0 ? 2 : 1;
    header.total_blocks += tile.count;
  }

  std::byte* base = static_cast<std::byte*>(section);
  int32_t* offsets = reinterpret_cast<int32_t*>(base + layout.offsets);
  AttentionWork* entries = reinterpret_cast<AttentionWork*>(base + layout.work);
  const Lists lists = deal(tiles, grid, blocks_per_step);
  offsets[0] = 0;
  for (size_t cta = 0; cta < lists.size(); ++cta) {
    entries = std::copy(lists[cta].begin(), lists[cta].end(), entries);
    offsets[cta + 1] = offsets[cta] + static_cast<int32_t>(lists[cta].size());
  }
  header.num_work = offsets[grid];
  std::memcpy(base + layout.header, &header, sizeof(header));
  std::memset(base + layout.flags, 0, sizeof(int32_t) * 2 * static_cast<size_t>(grid));
}

}  // namespace flashomni::cuda

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What blocks that do not end where tiles do cost: `tile_masks.py` prints two tables.

A tile of tokens is no multiple of a block at the edges of most videos. Blocks of one size run on
over the end of a tile and see what any of their tiles sees; ragged blocks end with it. The first
table compares both for sliding tiles (the strategy `sta`), the second what the bands of `svg1` cover in one order of tiles and in one order for each of
its two classes of heads. Both follow from the grid alone: nothing is measured.
"""

import math

import numpy as np

VIDEOS = {  # grids of tokens: frames, rows, columns
    "Wan 480p, 81 frames": (21, 30, 52),
    "Wan 720p, 81 frames": (21, 45, 80),
    "HunyuanVideo 544p, 129 frames": (33, 34, 60),
    "HunyuanVideo 720p, 129 frames": (33, 45, 80),
    "HunyuanVideo 768p, 117 frames": (30, 48, 80),
}
TILES = (((6, 8, 8), (3, 3, 3), 128), ((4, 4, 4), (5, 5, 5), 64))  # tile, window, tokens of a block
GPU_KEYS = 64  # keys that the GPU's kernel multiplies at a time
BAND_BLOCK = 128
BAND_TILES = ((1, 128), (2, 64), (4, 32), (8, 16))  # frames and places


def tile_order(grid, tile):
    """Frame, row and column of every token, tile by tile, and the number of its tile."""
    f, r, c = np.meshgrid(*map(np.arange, grid), indexing="ij")
    f, r, c = f.ravel(), r.ravel(), c.ravel()
    tiles = (f // tile[0], r // tile[1], c // tile[2])
    order = np.lexsort((c, r, f) + tiles[::-1])
    rows, cols = math.ceil(grid[1] / tile[1]), math.ceil(grid[2] / tile[2])
    number = (tiles[0] * rows + tiles[1]) * cols + tiles[2]
    return f[order], r[order] * grid[2] + c[order], number[order]


def near(count, window):
    """[count, count]: whether tile k lies in the window of tile q, its centre moved inwards."""
    half = window // 2
    if 2 * half >= count:
        return np.ones((count, count), bool)
    q, k = np.arange(count)[:, None], np.arange(count)
    return np.abs(np.clip(q, half, count - 1 - half) - k) <= half


def sliding_tiles(grid, tile, window, block):
    """Shares of all token pairs: (seen by tiles, which is what ragged blocks compute on a CPU;
    computed with blocks of one size; computed with ragged blocks on a GPU, whose kernel takes whole
    blocks of queries and so many keys at a time)."""
    counts = [math.ceil(g / t) for g, t in zip(grid, tile)]
    seen = np.ones((1, 1), bool)
    for count, wide in zip(counts, window):
        seen = np.kron(seen, near(count, wide))
    number = tile_order(grid, tile)[2]
    tokens = len(number)
    sizes = np.bincount(number)
    pairs = sizes[:, None] * sizes * seen
    # Which tiles a block holds, and from them which blocks see each other.
    blocks = np.arange(tokens) // block
    holds = np.zeros((blocks[-1] + 1, len(sizes)), np.float32)
    holds[blocks, number] = 1
    kept = (holds @ seen.astype(np.float32) @ holds.T) > 0
    lengths = np.bincount(blocks)
    whole = (lengths[:, None] * lengths * kept).sum()
    queries = np.ceil(sizes / block) * block
    keys = sizes // block * block + np.ceil(sizes % block / GPU_KEYS) * GPU_KEYS
    on_gpu = (queries[:, None] * keys * seen).sum()
    every = float(tokens) ** 2
    return pairs.sum() / every, whole / every, on_gpu / every


def band_share(position, band):
    """Share of the block pairs with two tokens at most `band` apart."""
    blocks = [np.sort(p) for p in np.split(position, range(BAND_BLOCK, len(position), BAND_BLOCK))]
    kept = 0
    for a in blocks:
        low, high = a[0] - band, a[-1] + band
        for b in blocks:
            if b[0] > high or b[-1] < low:
                continue
            at = np.searchsorted(b, a - band)
            kept += bool(np.any((at < len(b)) & (b[np.minimum(at, len(b) - 1)] <= a + band)))
    return kept / len(blocks) ** 2


def bands(grid, density):
    """Shares of block pairs: of one order a class, and (space, time) in one order for each tile."""
    frames, places = grid[0], grid[1] * grid[2]
    tokens = frames * places
    band = tokens * (1 - math.sqrt(1 - density))
    tiled = []
    for tile in BAND_TILES:
        f, p, _ = tile_order((frames, 1, places), (tile[0], 1, tile[1]))
        tiled.append((band_share(f * places + p, band), band_share(p * frames + f, band)))
    return band_share(np.arange(tokens), band), tiled


def percent(x):
    return f"{100 * x:.1f} %"


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    rows = []
    for name, grid in VIDEOS.items():
        for tile, window, block in TILES:
            seen, whole, on_gpu = sliding_tiles(grid, tile, window, block)
            rows.append([name, "x".join(map(str, grid)), "x".join(map(str, tile)), str(block),
                         percent(whole), percent(seen), percent(on_gpu)])
    table(["video", "grid", "tile", "block", "blocks of one size", "ragged, CPU", "ragged, GPU"],
          rows)
    rows = []
    for name, grid in VIDEOS.items():
        own, tiled = bands(grid, 0.3)
        rows.append([name, percent(own)] + [f"{percent(s)}, {percent(t)}" for s, t in tiled])
    table(["video", "an order a class"] + [f"tiles of {f} x {p}: space, time"
                                           for f, p in BAND_TILES], rows)


if __name__ == "__main__":
    main()

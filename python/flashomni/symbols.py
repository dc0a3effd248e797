# SPDX-License-Identifier: Apache-2.0
"""Sparse symbols: what attention may reuse (S_c) and skip (S_s), on NumPy arrays or torch tensors."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from . import _core


class Geometry(NamedTuple):
    """Shape of the symbols of one layer; block sizes are 32, 64 or 128, the last block may be ragged."""

    batch: int
    heads: int
    q_tokens: int
    kv_tokens: int
    block_q: int
    block_kv: int

    @property
    def num_q_blocks(self) -> int:
        return -(-self.q_tokens // self.block_q)

    @property
    def num_kv_blocks(self) -> int:
        return -(-self.kv_tokens // self.block_kv)


def _blocks(block: int | tuple[int, int]) -> tuple[int, int]:
    return (block, block) if isinstance(block, int) else (int(block[0]), int(block[1]))


def _host(array: Any) -> np.ndarray:
    """A NumPy array of whatever was given, torch tensors on any device included."""
    return array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array)


def _leading(
    array: np.ndarray, name: str, shape: tuple[int, ...], batch: int | None, heads: int | None
):
    """`array` with a batch and a head dimension in front, repeated where it had none."""
    if not len(shape) <= array.ndim <= len(shape) + 2:
        raise ValueError(
            f"{name} has {array.ndim} dimensions, wanted [batch, heads, ...] and {len(shape)} more"
        )
    while array.ndim < len(shape) + 2:
        array = array[None]
    if array.shape[2:] != shape:
        raise ValueError(f"{name} is {array.shape[2:]} a head, wanted {shape}")
    wanted = (batch or array.shape[0], heads or array.shape[1])
    for axis, what in enumerate(("batch", "heads")):
        if array.shape[axis] not in (1, wanted[axis]):
            raise ValueError(f"{what} of {name} is {array.shape[axis]}, wanted 1 or {wanted[axis]}")
    return np.broadcast_to(array, wanted + shape)


def _words(bits: np.ndarray) -> np.ndarray:
    """The last dimension as 64-bit words, bit k of the sequence in bit k % 64 of word k / 64."""
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 64)]
    return np.packbits(np.pad(bits, padding), axis=-1, bitorder="little").view("<u8")


class Symbols:
    """S_c and S_s of one attention layer, bit-packed (docs/symbols_format.md).

    `c` [B, H, ceil(nQ/64)] and `s` [B, H, nQ, ceil(nKV/64)] are 64-bit words: uint64 NumPy arrays, or
    int64 torch tensors after `to(device)`. Bit i of c: 1 = query block i is computed, 0 = it comes from
    the cache. Bit j of s: 1 = computed against key/value block j, 0 = skipped. Symbols do not change
    after they are made.

    every_row: known to compute every query block, so that results need not be cleared first.
    """

    def __init__(self, geometry: Geometry, c: Any, s: Any, *, every_row: bool = False):
        self.geometry = Geometry(*geometry)
        self.c = c
        self.s = s
        self.every_row = every_row
        self._plan: Any = None

    # ---- making them

    @classmethod
    def _of(cls, core: _core.SparseSymbols, repair: bool = False) -> Symbols:
        if repair:
            core = core.repaired()
        core.validate()
        counts = core.counts()
        every_row = counts["active_rows"] == counts["rows"]
        return cls(Geometry(*core.geometry), *core.words(), every_row=every_row)

    @classmethod
    def ones(
        cls,
        q_tokens: int,
        kv_tokens: int | None = None,
        *,
        batch: int = 1,
        heads: int = 1,
        block: int | tuple[int, int] = 64,
    ) -> Symbols:
        """Everything is computed."""
        g = Geometry(batch, heads, q_tokens, kv_tokens or q_tokens, *_blocks(block))
        return cls._of(_core.SparseSymbols(g))

    @classmethod
    def from_block_mask(
        cls,
        mask: Any,
        q_tokens: int,
        kv_tokens: int | None = None,
        *,
        cached: Any = None,
        block: int | tuple[int, int] = 64,
        batch: int | None = None,
        heads: int | None = None,
        repair: bool = False,
    ) -> Symbols:
        """From one truth value a block.

        mask: bool [B, H, nQ, nKV], [H, nQ, nKV] or [nQ, nKV] (then for all heads); True = computed.
        cached: bool [B, H, nQ] or less; True = the row comes from the cache. Default: none does.
        repair: give rows that are neither cached nor have a block their diagonal one.
        Raises ValueError for shapes that do not fit and, without repair, for empty rows, naming the first.
        """
        bq, bkv = _blocks(block)
        kv_tokens = kv_tokens or q_tokens
        nq, nkv = -(-q_tokens // bq), -(-kv_tokens // bkv)
        s = _leading(_host(mask).astype(bool), "mask", (nq, nkv), batch, heads)
        if cached is None:
            c = np.ones(s.shape[:3], bool)
        else:
            c = ~_leading(_host(cached).astype(bool), "cached", (nq,), s.shape[0], s.shape[1])
        g = Geometry(s.shape[0], s.shape[1], q_tokens, kv_tokens, bq, bkv)
        return cls._of(
            _core.SparseSymbols.from_words(g, _words(c), _words(s & c[..., None])), repair
        )

    @classmethod
    def from_bsr(
        cls,
        row_offsets: Any,
        columns: Any,
        q_tokens: int,
        kv_tokens: int | None = None,
        *,
        batch: int = 1,
        heads: int = 1,
        block: int | tuple[int, int] = 64,
    ) -> Symbols:
        """From index lists (block-sparse rows).

        row_offsets: int [B*H*nQ + 1]; columns: int, the ascending key/value blocks of each row (b, h, i),
        in that order. A row without blocks is a cached one. Raises ValueError for lists that do not fit.
        """
        g = Geometry(batch, heads, q_tokens, kv_tokens or q_tokens, *_blocks(block))
        lists = (_host(row_offsets).astype(np.int32), _host(columns).astype(np.int32))
        return cls._of(_core.SparseSymbols.from_index_lists(g, *lists))

    @classmethod
    def from_dense(
        cls,
        mask: Any,
        *,
        block: int | tuple[int, int] = 64,
        cover: bool = False,
        repair: bool = False,
    ) -> Symbols:
        """From one truth value a pair of tokens: bool [B, H, N, Nkv], [H, N, Nkv] or [N, Nkv].

        The symbols know blocks only: a mask with both values inside a block raises ValueError, unless
        `cover`, which computes every block that holds a True (more than the mask asks for).
        """
        bq, bkv = _blocks(block)
        dense = _host(mask).astype(bool)
        if dense.ndim < 2:
            raise ValueError(
                f"mask has {dense.ndim} dimensions, wanted [N, Nkv], [H, N, Nkv] or [B, H, N, Nkv]"
            )
        n, nkv = dense.shape[-2:]
        rows, columns = np.arange(0, n, bq), np.arange(0, nkv, bkv)
        some = np.logical_or.reduceat(np.logical_or.reduceat(dense, rows, -2), columns, -1)
        if not cover:
            every = np.logical_and.reduceat(np.logical_and.reduceat(dense, rows, -2), columns, -1)
            mixed = np.argwhere(some & ~every)
            if len(mixed):
                raise ValueError(
                    f"block {tuple(int(i) for i in mixed[0][-2:])} of the mask holds both True and "
                    f"False, and {len(mixed) - 1} more do; symbols know whole blocks of {bq} x {bkv}: "
                    "pass cover=True to compute every block that holds a True"
                )
        return cls.from_block_mask(some, n, nkv, block=block, repair=repair)

    @classmethod
    def from_flat(
        cls, c: Any, c_offsets: Any, s: Any, s_offsets: Any, geometry: Geometry
    ) -> Symbols:
        """From the published flat layout: uint8 bytes and int64 byte offsets [B + 1] of each."""
        return cls._of(
            _core.SparseSymbols.from_flat(
                geometry, _host(c), _host(c_offsets), _host(s), _host(s_offsets)
            )
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Symbols:
        """From a symbol file, as `flashomni inspect` writes them."""
        return cls._of(_core.SparseSymbols.load(os.fspath(path)))

    # ---- where they are

    @property
    def is_torch(self) -> bool:
        return not isinstance(self.c, np.ndarray)

    def to(self, device: Any) -> Symbols:
        """The same symbols as torch tensors on `device` ("cpu", "cuda:0", ...), or as NumPy arrays with
        device="numpy"."""
        if device == "numpy":
            return self.numpy()
        from .torch_ops import torch

        def moved(words: Any):
            if isinstance(words, np.ndarray):
                words = torch.from_numpy(words.view(np.int64).copy())
            return words.to(device)

        return Symbols(self.geometry, moved(self.c), moved(self.s), every_row=self.every_row)

    def numpy(self) -> Symbols:
        """The same symbols as NumPy arrays."""
        if not self.is_torch:
            return self
        words = (_host(self.c).view(np.uint64), _host(self.s).view(np.uint64))
        return Symbols(self.geometry, *words, every_row=self.every_row)

    @property
    def plan(self) -> Any:
        """Work lists of torch symbols (uint8 tensor), made once; kernels take them along."""
        if self._plan is None:
            from .torch_ops import ops

            g = self.geometry
            self._plan = ops.plan(self.c, self.s, g.q_tokens, g.kv_tokens, g.block_q, g.block_kv)
        return self._plan

    def _core(self) -> _core.SparseSymbols:
        host = self.numpy()
        return _core.SparseSymbols.from_words(self.geometry, host.c, host.s)

    # ---- other forms

    def to_block_mask(self) -> tuple[np.ndarray, np.ndarray]:
        """(computed rows bool [B, H, nQ], computed blocks bool [B, H, nQ, nKV])."""
        c, s = self._core().to_masks()
        return c.astype(bool), s.astype(bool)

    def to_dense(self) -> np.ndarray:
        """bool [B, H, N, Nkv]: the pairs of tokens that are computed."""
        g = self.geometry
        c, s = self.to_block_mask()
        pairs = (s & c[..., None]).repeat(g.block_q, 2).repeat(g.block_kv, 3)
        return pairs[:, :, : g.q_tokens, : g.kv_tokens]

    def to_bsr(self) -> tuple[np.ndarray, np.ndarray]:
        """(row_offsets int32 [B*H*nQ + 1], columns int32); cached rows are empty."""
        return self._core().to_index_lists()

    def to_flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(c bytes, c_offsets, s bytes, s_offsets) in the published flat layout."""
        return self._core().to_flat()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a symbol file, whole or not at all."""
        self._core().save(os.fspath(path))

    # ---- what they say

    def counts(self) -> dict[str, int]:
        """{"rows", "active_rows", "pairs", "active_pairs"}."""
        return self._core().counts()

    @property
    def sparsity(self) -> float:
        """Share of block pairs that are not computed: zeros of S_c * S_s."""
        n = self.counts()
        return 1.0 - n["active_pairs"] / n["pairs"]

    def picture(self, batch: int = 0, head: int = 0) -> str:
        """One line a query block: '#' computed, '.' skipped, '-' cached."""
        return self._core().ascii(batch, head)

    # ---- algebra; repairs at the end, so that the result is valid

    def _binary(self, other: Symbols, name: str) -> Symbols:
        return self._of(getattr(self._core(), name)(other._core()), repair=True)

    def __and__(self, other: Symbols) -> Symbols:
        return self._binary(other, "intersect")

    def __or__(self, other: Symbols) -> Symbols:
        return self._binary(other, "unite")

    def __invert__(self) -> Symbols:
        return self._of(self._core().invert(), repair=True)

    def dilate(self, radius: int) -> Symbols:
        """Also the key/value blocks within `radius` blocks of a computed one."""
        return self._of(self._core().dilate(radius), repair=True)

    def expand(self, block: int | tuple[int, int]) -> Symbols:
        """The same symbols in finer blocks; sizes must divide the present ones."""
        return self._of(self._core().expand(*_blocks(block)), repair=True)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Symbols)
            and self.geometry == other.geometry
            and self._core() == other._core()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        where = str(self.c.device) if self.is_torch else "numpy"
        return f"Symbols({self.geometry}, {where}, sparsity {self.sparsity:.3f})"

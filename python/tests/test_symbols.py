# SPDX-License-Identifier: Apache-2.0
"""Symbols from and to every form they have, against masks that NumPy makes itself."""

from pathlib import Path

import numpy as np
import pytest

import flashomni
from flashomni import Symbols

SHAPES = [(1, 1, 64, 64), (2, 3, 200, 130), (1, 2, 65 * 64 + 1, 70)]


def random_symbols(seed, batch, heads, q, kv, block=64):
    rng = np.random.default_rng(seed)
    nq, nkv = -(-q // block), -(-kv // block)
    cached = rng.random((batch, heads, nq)) < 0.3
    mask = rng.random((batch, heads, nq, nkv)) < 0.6
    mask[..., 0] |= ~mask.any(-1)
    return Symbols.from_block_mask(mask, q, kv, cached=cached, block=block), mask, cached


@pytest.mark.parametrize("shape", SHAPES)
def test_block_masks_come_back(shape):
    symbols, mask, cached = random_symbols(1, *shape)
    computed, blocks = symbols.to_block_mask()
    assert np.array_equal(computed, ~cached)
    assert np.array_equal(blocks, mask & ~cached[..., None])
    n = symbols.counts()
    assert n["active_rows"] == (~cached).sum()
    assert n["active_pairs"] == (mask & ~cached[..., None]).sum()
    assert symbols.sparsity == pytest.approx(1 - n["active_pairs"] / mask.size)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_codec_is_a_round_trip(shape, tmp_path):
    symbols, mask, cached = random_symbols(2, *shape)
    b, h, q, kv = shape
    offsets, columns = symbols.to_bsr()
    on = mask & ~cached[..., None]
    assert np.array_equal(np.diff(offsets), on.sum(-1).ravel())
    assert np.array_equal(columns, np.nonzero(on)[3])
    assert Symbols.from_bsr(offsets, columns, q, kv, batch=b, heads=h) == symbols
    assert Symbols.from_flat(*symbols.to_flat(), symbols.geometry) == symbols
    symbols.save(tmp_path / "s.fos")
    assert Symbols.load(tmp_path / "s.fos") == symbols
    other, _, _ = random_symbols(3, *shape)
    assert shape == SHAPES[0] or other != symbols


def test_flat_bits_are_where_the_format_says():
    mask = np.ones((1, 2, 2, 2), bool)
    mask[0, 1, 0] = [True, False]  # head 1, query block 0 skips kv block 1
    c, _, s, _ = Symbols.from_block_mask(mask, 128).to_flat()
    # S_s bit (i*H + h)*nKV + j = (0*2 + 1)*2 + 1 = 3.
    assert c[0] == 0b1111 and s[0] == 0b11110111


def test_dense_masks():
    dense = np.zeros((128, 192), bool)
    dense[:64, :128] = True
    dense[64:, 128:] = True
    symbols = Symbols.from_dense(dense)
    assert np.array_equal(symbols.to_dense()[0, 0], dense)
    dense[3, 190] = True
    with pytest.raises(ValueError, match=r"block \(0, 2\).*both True and False"):
        Symbols.from_dense(dense)
    covered = Symbols.from_dense(dense, cover=True)
    assert covered.to_block_mask()[1][0, 0].tolist() == [[True, True, True], [False, False, True]]


def test_broadcast_over_heads():
    mask = np.eye(3, dtype=bool)
    symbols = Symbols.from_block_mask(mask, 192, batch=2, heads=4)
    assert symbols.geometry[:2] == (2, 4)
    assert np.array_equal(symbols.to_block_mask()[1], np.broadcast_to(mask, (2, 4, 3, 3)))


def test_algebra_follows_the_masks():
    a, mask_a, _ = random_symbols(4, 1, 2, 640, 640)
    full = Symbols.ones(640, heads=2)
    assert (a | full).to_block_mask()[1].all()
    assert a & full == a
    eye = Symbols.from_block_mask(np.eye(10, dtype=bool), 640)
    wide = eye.dilate(1).to_block_mask()[1][0, 0]
    assert np.array_equal(wide, np.abs(np.subtract.outer(np.arange(10), np.arange(10))) <= 1)
    fine = Symbols.from_block_mask(np.eye(2, dtype=bool), 256, block=128).expand(64)
    assert np.array_equal(fine.to_block_mask()[1][0, 0], np.kron(np.eye(2), np.ones((2, 2))) > 0)


def test_refusals_name_what_is_wrong():
    empty = np.eye(3, dtype=bool)
    empty[1] = False
    with pytest.raises(ValueError, match="1"):
        Symbols.from_block_mask(empty, 192)
    repaired = Symbols.from_block_mask(empty, 192, repair=True)
    assert repaired.to_block_mask()[1][0, 0, 1].tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"\(3, 3\) a head, wanted \(4, 4\)"):
        Symbols.from_block_mask(empty, 256)
    with pytest.raises(ValueError, match="block"):
        Symbols.ones(128, block=48)
    with pytest.raises(ValueError):
        Symbols.from_bsr([0, 1, 5], [0, 0], 128)
    with pytest.raises((LookupError, OSError), match="nowhere"):
        Symbols.load("nowhere.fos")
    ragged = Path(__file__).parents[2] / "tests/fuzz/corpus/symbols/seed-04"
    with pytest.raises(NotImplementedError, match="4 blocks are ragged"):
        Symbols.load(str(ragged))


def test_picture():
    mask = np.array([[True, False], [True, True]])
    symbols = Symbols.from_block_mask(mask, 128, cached=np.array([False, True]))
    assert symbols.picture().split() == ["#.", "--"]
    with pytest.raises(ValueError, match="head 7"):
        symbols.picture(head=7)


def test_strategies_speak_the_command_lines_json(tmp_path):
    names = [s["name"] for s in flashomni.list_strategies()]
    assert "flashomni" in names and "dense" in names
    config = tmp_path / "run.json"
    config.write_text('{"strategy": "flashomni", "preset": "quality", "options": {"tau_kv": 0.1}}')
    resolved = flashomni.Strategy.of(config).resolve("flux")
    assert resolved.options["tau_kv"] == 0.1 and resolved.preset == "quality"
    assert "warmup" in resolved.options
    with pytest.raises(ValueError, match="tau_z"):
        flashomni.Strategy("flashomni", options={"tau_z": 1}).resolve()
    with pytest.raises(ValueError, match="tau_q"):
        flashomni.Strategy("flashomni", options={"tau_q": 7}).resolve()
    with pytest.raises(ValueError, match="no_such"):
        flashomni.Strategy("no_such").resolve()
    with pytest.raises(ValueError, match="speed"):
        flashomni.Strategy.from_json({"speed": 3})

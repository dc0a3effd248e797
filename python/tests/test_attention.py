# SPDX-License-Identifier: Apache-2.0
"""flashomni.attention on NumPy arrays and torch tensors against the float64 oracle."""

import numpy as np
import oracle
import pytest

import flashomni
from flashomni import Symbols

# (batch, heads, head_dim, q tokens, kv tokens, block)
CASES = [
    (1, 1, 2, 1, 1, 64),
    (1, 2, 64, 63, 65, 64),
    (2, 3, 40, 200, 131, 64),
    (1, 2, 128, 257, 257, 128),
    (1, 1, 16, 100, 100, 32),
]


def inputs(seed, batch, heads, d, q, kv):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, n, heads, d), np.float32) for n in (q, kv, kv)]


def symbols_for(case, seed=0, density=0.5):
    batch, heads, _, q, kv, block = case
    rng = np.random.default_rng(seed)
    nq, nkv = -(-q // block), -(-kv // block)
    cached = rng.random((batch, heads, nq)) < 0.3
    mask = oracle.block_mask(rng, batch, heads, nq, nkv, density)
    return Symbols.from_block_mask(mask, q, kv, cached=cached, block=block)


@pytest.mark.parametrize("case", CASES)
def test_numpy_matches_the_oracle(case):
    q, k, v = inputs(1, *case[:5])
    symbols = symbols_for(case)
    kept = np.random.default_rng(2).standard_normal(q.shape).astype(np.float32)
    seen = flashomni.attention(q, k, v, symbols, cached=kept)
    computed = (
        symbols.to_block_mask()[0].repeat(case[5], 2)[:, :, : case[3]].transpose(0, 2, 1)[..., None]
    )
    wanted = np.where(computed, oracle.attention(q, k, v, symbols.to_dense()), kept)
    assert oracle.error(seen, wanted) < oracle.F32
    assert np.array_equal(
        seen[~np.broadcast_to(computed, seen.shape)], kept[~np.broadcast_to(computed, seen.shape)]
    )
    assert (
        oracle.error(flashomni.attention(q, k, v, scale=0.3), oracle.attention(q, k, v, scale=0.3))
        < oracle.F32
    )


def test_zero_sparsity_is_dense_to_the_bit():
    q, k, v = inputs(3, 1, 2, 64, 300, 300)
    dense = flashomni.attention(q, k, v)
    assert np.array_equal(flashomni.attention(q, k, v, Symbols.ones(300, heads=2)), dense)


def test_a_flipped_symbol_is_seen():
    case = (1, 2, 64, 256, 256, 64)
    q, k, v = inputs(4, *case[:5])
    mask = oracle.block_mask(np.random.default_rng(5), 1, 2, 4, 4, 0.7)
    right = oracle.attention(q, k, v, Symbols.from_block_mask(mask, 256).to_dense())
    assert (
        oracle.error(flashomni.attention(q, k, v, Symbols.from_block_mask(mask, 256)), right)
        < oracle.F32
    )
    mask[0, 1, 2, 3] ^= True
    assert (
        oracle.error(flashomni.attention(q, k, v, Symbols.from_block_mask(mask, 256)), right) > 1e-3
    )


def test_numpy_refusals():
    q, k, v = inputs(6, 1, 2, 64, 128, 128)
    with pytest.raises(ValueError, match="dimensions"):
        flashomni.attention(q[0], k, v)
    with pytest.raises(NotImplementedError, match="head_dim is 63"):
        flashomni.attention(q[..., :63], k[..., :63], v[..., :63])
    with pytest.raises(ValueError):
        flashomni.attention(q, k, v, Symbols.ones(64, heads=2))


# ---- torch

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_torch_matches_the_oracle(case, dtype):
    q, k, v = (torch.from_numpy(x).to(dtype) for x in inputs(7, *case[:5]))
    symbols = symbols_for(case)
    seen = flashomni.attention(q, k, v, symbols.to("cpu"))
    assert seen.dtype == dtype and seen.shape == q.shape
    wanted = oracle.attention(q.double(), k.double(), v.double(), symbols.to_dense())
    bound = {torch.float32: oracle.F32, torch.bfloat16: 4e-2, torch.float16: 6e-3}[dtype]
    assert oracle.error(seen.double(), wanted) < bound
    assert torch.equal(seen, flashomni.attention(q, k, v, symbols)), "NumPy symbols are moved"


def test_torch_and_numpy_agree_to_the_bit():
    case = CASES[2]
    arrays = inputs(8, *case[:5])
    symbols = symbols_for(case)
    seen = flashomni.attention(*(torch.from_numpy(x) for x in arrays), symbols)
    assert np.array_equal(seen.numpy(), flashomni.attention(*arrays, symbols))


def test_strides():
    """Views whose innermost stride is 1 are taken as they are; others are copied. The same bits."""
    case = (2, 3, 40, 200, 200, 64)
    qkv = torch.randn(2, 200, 3, 3, 40, generator=torch.Generator().manual_seed(0))
    symbols = symbols_for(case).to("cpu")
    q, k, v = qkv.unbind(2)
    wanted = flashomni.attention(q.contiguous(), k.contiguous(), v.contiguous(), symbols)
    assert not q.is_contiguous()
    assert torch.equal(flashomni.attention(q, k, v, symbols), wanted)
    heads_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert torch.equal(flashomni.attention(*heads_first, symbols), wanted)
    odd = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
    assert odd[0].stride(-1) != 1
    assert torch.equal(flashomni.attention(*odd, symbols), wanted)


def test_cached_rows_and_empty_tensors():
    q, k, v = (torch.from_numpy(x) for x in inputs(9, 1, 1, 64, 128, 128))
    cached_all = Symbols.from_block_mask(np.zeros((2, 2), bool), 128, cached=np.ones(2, bool))
    kept = torch.randn_like(q)
    assert torch.equal(flashomni.attention(q, k, v, cached_all, cached=kept), kept)
    assert flashomni.attention(q, k, v, cached_all).abs().max() == 0


def test_results_are_cleared_unless_every_row_is_known_to_be_computed():
    rows = np.ones((2, 2), bool)
    mask = np.ones((2, 2, 2), bool)
    assert Symbols.ones(128, heads=2).every_row
    assert Symbols.from_block_mask(mask, 128).to("cpu").every_row
    rows[1, 0] = False
    some = Symbols.from_block_mask(mask, 128, cached=~rows)
    for symbols in (some, some.to("cpu"), some.to("cpu").numpy()):
        assert not symbols.every_row
    words = Symbols.ones(128, heads=2).to("cpu")
    unknown = Symbols(words.geometry, words.c, words.s)
    assert not unknown.every_row, "symbols of a caller's own words are not looked at"
    q, k, v = (torch.from_numpy(x) for x in inputs(10, 1, 2, 64, 128, 128))
    assert torch.equal(flashomni.attention(q, k, v, unknown), flashomni.attention(q, k, v, words))
    # Memory that a result may get, freed with something in it.
    for _ in range(8):
        torch.full(q.shape, float("nan"))
    out = flashomni.attention(q, k, v, some.to("cpu"))
    assert torch.equal(out[:, :64, 1], torch.zeros(1, 64, 64)) and out[:, 64:].abs().min() > 0
    assert flashomni.build_symbols(q, k, skip=0.5).every_row
    assert not flashomni.build_symbols(q, k, text=(0, 64), cache=0.9).every_row


def test_torch_refusals():
    q, k, v = (torch.from_numpy(x) for x in inputs(10, 1, 2, 64, 128, 128))
    with pytest.raises(NotImplementedError, match="dtype"):
        flashomni.attention(q.double(), k.double(), v.double())
    with pytest.raises(ValueError, match="symbols are for"):
        flashomni.attention(q, k, v, Symbols.ones(64, heads=2))
    with pytest.raises(ValueError, match="dimensions"):
        flashomni.attention(q[0], k, v)
    with pytest.raises(NotImplementedError, match="head_dim is 300"):
        flashomni.attention(*(torch.zeros(1, 4, 1, 300) for _ in range(3)))
    with pytest.raises(ValueError, match="symbols are on meta"):
        flashomni.attention(q, k, v, Symbols.ones(128, heads=2).to("meta"))
    with pytest.raises(NotImplementedError, match="inference"):
        flashomni.attention(q.requires_grad_(), k, v).sum().backward()


def test_build_symbols_keeps_what_the_pooled_scores_say():
    """Keys of block 0 are alike and match every query: top-1 must choose that block, in every row."""
    n, d = 256, 32
    generator = torch.Generator().manual_seed(1)
    q = 0.1 * torch.randn(1, n, 2, d, generator=generator)
    k = 0.1 * torch.randn(1, n, 2, d, generator=generator)
    q[..., 0] += 3
    k[:, :64, :, 0] += 3
    symbols = flashomni.build_symbols(q, k, skip=1, rule="top_k")
    _, blocks = symbols.to_block_mask()
    assert blocks[..., 0].all() and not blocks[..., 1:].any()
    everything = flashomni.build_symbols(q, k, text=(0, 64))
    assert everything.sparsity == 0
    cached = flashomni.build_symbols(q, k, text=(0, 64), cache=0.9)
    rows, _ = cached.to_block_mask()
    assert rows[..., 0].all() and not rows.all(), "text rows stay, some others are cached"
    with pytest.raises(ValueError, match="rule"):
        flashomni.build_symbols(q, k, rule="best")

# SPDX-License-Identifier: Apache-2.0
"""What torch wants of custom operations: opcheck, fullgraph compile, autocast; and the codecs."""

import numpy as np
import oracle
import pytest

torch = pytest.importorskip("torch")

import flashomni  # noqa: E402
from flashomni import PackedWeight, Symbols  # noqa: E402
from flashomni.torch_ops import ops  # noqa: E402

N, H, D = 130, 2, 32


def tensors(count=3, *shape):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape or (1, N, H, D), generator=g) for _ in range(count)]


def some_symbols():
    mask = oracle.block_mask(np.random.default_rng(0), 1, H, 3, 3, 0.5)
    return Symbols.from_block_mask(mask, N, cached=np.eye(3, dtype=bool)[:H]).to("cpu")


def cases():
    q, k, v = tensors()
    y = some_symbols()
    c, s, plan = y.c, y.s, y.plan
    wq = PackedWeight(torch.randn(H * D, 48), torch.randn(H * D), head_dim=D)
    wo = PackedWeight(torch.randn(48, H * D), torch.randn(48))
    x = torch.randn(1, N, 48)
    factors = torch.randn(2, 1, N, H, D)
    planes = ops.gemm_o_update(factors, wo.id, 48, None, c, s, plan, 64, 64)[1]
    scores = ops.block_scores(ops.pool(q, 64, False), ops.pool(k, 64, True), 0.0)
    return (
        wq,
        wo,
        {
            "attention": (q, k, v, c, s, plan, 64, 64, False, 0.0, None),
            "gemm_q": (x, wq.id, H, D, None, 1e-6, None, None, c, s, plan, 64, 64, False, N, 0),
            "gemm_o": (q, wo.id, 48, None, planes, [1.0, 1.0], c, s, plan, 64, 64, 0, 0),
            "gemm_o_update": (factors, wo.id, 48, None, c, s, plan, 64, 64),
            "pool": (q, 64, True),
            "block_scores": (ops.pool(q, 64, False), ops.pool(k, 64, False), 0.0),
            "select_symbols": (
                scores,
                N,
                N,
                64,
                64,
                0,
                64,
                0.4,
                "mean_of_softmaxes",
                "drop_cdf",
                0.2,
                True,
            ),
            "pack_mask": (torch.rand(2, 3, 70) < 0.5,),
            "unpack_words": (c, 3),
            "plan": (c, s, N, N, 64, 64),
        },
    )


@pytest.mark.parametrize("name", sorted(cases()[2]))
def test_opcheck(name):
    wq, wo, arguments = cases()
    tests = [
        "test_schema",
        "test_autograd_registration",
        "test_faketensor",
        "test_aot_dispatch_dynamic",
    ]
    if name == "plan":  # its size is known at run time only
        tests.remove("test_aot_dispatch_dynamic")
    torch.library.opcheck(getattr(ops, name).default, arguments[name], test_utils=tests)


def test_fullgraph_compile():
    q, k, v = tensors()
    symbols = some_symbols()

    def model(q, k, v):
        return flashomni.attention(q * 2, k, v, symbols) + flashomni.attention(q, k, v)

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q, k, v), model(q, k, v))


def test_fullgraph_compile_with_inductor():
    q, k, v = tensors()
    symbols = some_symbols()

    def model(q, k, v):
        return torch.nn.functional.gelu(flashomni.attention(q, k, v, symbols))

    try:
        compiled = torch.compile(model, fullgraph=True)(q, k, v)
    except Exception as error:  # a machine without a C++ compiler for inductor
        if "compiler" in str(error).lower() and "InvalidCxxCompiler" in str(error):
            pytest.skip(f"inductor has no compiler here: {error}")
        raise
    torch.testing.assert_close(compiled, model(q, k, v))


def test_autocast_casts_as_torch_does():
    q, k, v = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        seen = flashomni.attention(q, k, v)
        projected = flashomni.gemm_q(
            q.flatten(2).bfloat16(), PackedWeight(torch.eye(H * D), head_dim=D)
        )
    assert seen.dtype == torch.bfloat16
    assert torch.equal(seen, flashomni.attention(q.bfloat16(), k.bfloat16(), v.bfloat16()))
    assert projected.dtype == torch.float32
    assert torch.equal(projected, q.bfloat16().float())


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_words_are_the_masks_bits(n):
    mask = torch.rand(2, 3, n, generator=torch.Generator().manual_seed(n)) < 0.5
    words = ops.pack_mask(mask)
    assert words.shape == (2, 3, (n + 63) // 64)
    wanted = np.packbits(
        np.pad(mask.numpy(), [(0, 0), (0, 0), (0, -n % 64)]), axis=-1, bitorder="little"
    )
    assert np.array_equal(words.numpy().view(np.uint8).reshape(2, 3, -1), wanted)
    assert torch.equal(ops.unpack_words(words, n), mask)


def test_another_torch_is_refused(monkeypatch):
    import importlib

    import flashomni.torch_ops as seam

    monkeypatch.setattr("flashomni._build_info.TORCH_VERSION", "1.0.0")
    with pytest.raises(flashomni.MissingTorchError, match=r"built for 1\.0\.0"):
        importlib.reload(seam)
    monkeypatch.undo()
    importlib.reload(seam)

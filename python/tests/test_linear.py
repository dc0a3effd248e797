# SPDX-License-Identifier: Apache-2.0
"""GEMM-Q and GEMM-O against plain float64 linear algebra."""

import numpy as np
import oracle
import pytest

torch = pytest.importorskip("torch")

import flashomni  # noqa: E402
from flashomni import PackedWeight, Symbols  # noqa: E402

B, N, H, D, WIDTH = 2, 150, 3, 32, 80


@pytest.fixture()
def data():
    g = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    mask = np.ones((B, H, 3, 3), bool)
    cached = rng.random((B, H, 3)) < 0.4
    return {
        "x": torch.randn(B, N, WIDTH, generator=g),
        "wq": torch.randn(H * D, WIDTH, generator=g) / 9,
        "bq": torch.randn(H * D, generator=g),
        "rms": 1 + 0.1 * torch.randn(D, generator=g),
        "angle": torch.randn(N, D // 2, generator=g),
        "attn": torch.randn(2, B, N, H, D, generator=g),
        "wo": torch.randn(WIDTH, H * D + 40, generator=g) / 9,
        "bo": torch.randn(WIDTH, generator=g),
        "mlp": torch.randn(B, N, 40, generator=g),
        "symbols": Symbols.from_block_mask(mask, N, cached=cached).to("cpu"),
        "computed": torch.from_numpy(~cached.repeat(64, 2)[:, :, :N].transpose(0, 2, 1)[..., None]),
    }


def queries(d):
    q = (d["x"].double() @ d["wq"].double().T + d["bq"].double()).unflatten(-1, (H, D))
    q = q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-6) * d["rms"].double()
    cos, sin = d["angle"].double().cos()[:, None], d["angle"].double().sin()[:, None]
    even, odd = q[..., 0::2], q[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


def test_gemm_q(data):
    weight = PackedWeight(data["wq"], data["bq"], head_dim=D)
    rope = (data["angle"].cos(), data["angle"].sin())
    wanted = queries(data)
    dense = flashomni.gemm_q(data["x"], weight, rms_weight=data["rms"], rope=rope)
    assert oracle.error(dense, wanted) < oracle.F32
    sparse = flashomni.gemm_q(data["x"], weight, data["symbols"], rms_weight=data["rms"], rope=rope)
    assert torch.equal(sparse, torch.where(data["computed"], dense, 0))
    # One segment of a longer sequence: rows around it stay 0.
    part = flashomni.gemm_q(
        data["x"][:, 100:], weight, rms_weight=data["rms"], rope=rope, tokens=N, token_offset=100
    )
    assert torch.equal(part[:, 100:], dense[:, 100:]) and part[:, :100].abs().max() == 0


def test_gemm_o_update_then_dispatch(data):
    weight = PackedWeight(data["wo"], data["bo"])
    symbols, computed = data["symbols"], data["computed"]
    f0, f1 = data["attn"]
    out, planes = flashomni.gemm_o_update(data["attn"], weight, symbols, mlp=data["mlp"])

    def project(heads):
        x = torch.cat([heads.flatten(2), data["mlp"]], -1).double()
        return x @ data["wo"].double().T + data["bo"].double()

    assert oracle.error(out, project(f0)) < oracle.F32
    # Three steps on: computed heads are fresh, cached ones forecast as f0 + 3 f1.
    fresh = torch.randn(f0.shape, generator=torch.Generator().manual_seed(3))
    attn = torch.where(computed, fresh, torch.full_like(fresh, float("nan")))
    seen = flashomni.gemm_o(
        attn, weight, symbols, planes=planes, coefficients=[1.0, 3.0], mlp=data["mlp"]
    )
    wanted = project(torch.where(computed, fresh, f0 + 3 * f1))
    assert oracle.error(seen, wanted) < oracle.F32, "and no cached row was read"


def test_zero_sparsity_is_dense_to_the_bit(data):
    weight = PackedWeight(data["wo"], data["bo"])
    ones = Symbols.ones(N, batch=B, heads=H).to("cpu")
    dense = flashomni.gemm_o(data["attn"][0], weight, mlp=data["mlp"])
    out, planes = flashomni.gemm_o_update(data["attn"], weight, ones, mlp=data["mlp"])
    assert torch.equal(out, dense)
    again = flashomni.gemm_o(
        data["attn"][0], weight, ones, planes=planes, coefficients=[1.0, 2.0], mlp=data["mlp"]
    )
    assert torch.equal(again, dense)


def test_refusals(data):
    weight = PackedWeight(data["wq"], data["bq"], head_dim=D)
    with pytest.raises((ValueError, NotImplementedError), match="x is"):
        flashomni.gemm_q(data["x"].bfloat16(), weight)
    with pytest.raises(ValueError, match="in features"):
        flashomni.gemm_q(data["x"][..., :40], weight)
    out = PackedWeight(data["wo"])
    with pytest.raises(ValueError, match="planes"):
        flashomni.gemm_o(data["attn"][0], out, data["symbols"], mlp=data["mlp"])
    out.close()
    with pytest.raises(RuntimeError, match="no packed weight"):
        flashomni.gemm_o(data["attn"][0], out, mlp=data["mlp"])
    with pytest.raises(ValueError, match="divisor"):
        PackedWeight(data["wq"], head_dim=7)

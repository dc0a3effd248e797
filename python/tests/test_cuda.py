# SPDX-License-Identifier: Apache-2.0
"""The same operations and pipelines on a GPU, in bfloat16. Skips, and says so, where there is none."""

import oracle
import pytest

torch = pytest.importorskip("torch")

import flashomni  # noqa: E402
from flashomni import PackedWeight, Symbols  # noqa: E402

if not torch.cuda.is_available():
    pytest.skip("NO GPU: nothing of the CUDA path was tested", allow_module_level=True)
if "cuda" not in flashomni.backends():
    pytest.skip("BUILT WITHOUT CUDA: nothing of the CUDA path was tested", allow_module_level=True)

# Twice the error of a bfloat16 run of torch's own attention on such inputs.
BF16 = 5e-2


def inputs(n, heads=2, d=128, seed=0):
    g = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(1, n, heads, d, generator=g, device="cuda", dtype=torch.bfloat16)
        for _ in range(3)
    ]


def symbols_for(n, heads=2, seed=0):
    import numpy as np

    rng = np.random.default_rng(seed)
    blocks = -(-n // 64)
    mask = oracle.block_mask(rng, 1, heads, blocks, blocks, 0.5)
    return Symbols.from_block_mask(mask, n, cached=rng.random((1, heads, blocks)) < 0.3).to("cuda")


@pytest.mark.parametrize("n", [64, 333, 1024])
@pytest.mark.parametrize("d", [64, 128])
def test_attention(n, d):
    q, k, v = inputs(n, d=d)
    symbols = symbols_for(n)
    kept = torch.randn_like(q)
    seen = flashomni.attention(q, k, v, symbols, cached=kept)
    host = [x.double().cpu() for x in (q, k, v)]
    rows = torch.from_numpy(
        symbols.to_block_mask()[0].repeat(64, 2)[:, :, :n].transpose(0, 2, 1)[..., None]
    )
    wanted = torch.where(
        rows, torch.from_numpy(oracle.attention(*host, symbols.to_dense())), kept.double().cpu()
    )
    assert oracle.error(seen.double().cpu(), wanted) < BF16
    ones = Symbols.ones(n, heads=2).to("cuda")
    assert torch.equal(flashomni.attention(q, k, v, ones), flashomni.attention(q, k, v))


def test_the_current_stream_is_used():
    q, k, v = inputs(512)
    wanted = flashomni.attention(q, k, v)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # work ahead of the inputs on this stream only
        q2 = q * 1
        seen = flashomni.attention(q2, k, v)
    stream.synchronize()
    assert torch.equal(seen, wanted)


def test_no_host_synchronisation():
    q, k, v = inputs(512)
    symbols = symbols_for(512)
    _ = symbols.plan
    flashomni.attention(q, k, v, symbols)
    torch.cuda.set_sync_debug_mode("error")
    try:
        flashomni.attention(q, k, v, symbols)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        seen = flashomni.attention(q, k, v, symbols)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(seen, flashomni.attention(q, k, v, symbols))


def test_strides_and_refusals():
    qkv = torch.randn(1, 256, 3, 2, 128, device="cuda", dtype=torch.bfloat16)
    q, k, v = qkv.unbind(2)
    wanted = flashomni.attention(q.contiguous(), k.contiguous(), v.contiguous())
    assert torch.equal(flashomni.attention(q, k, v), wanted)
    with pytest.raises((NotImplementedError, ValueError), match="float32|f32"):
        flashomni.attention(q.float(), k.float(), v.float())
    with pytest.raises(NotImplementedError, match="head_dim"):
        flashomni.attention(q[..., :72], k[..., :72], v[..., :72])
    with pytest.raises(ValueError, match="is on cpu, wanted cuda"):
        flashomni.attention(q, k.cpu(), v)


def test_gemm_q_and_gemm_o():
    n, heads, d, width = 512, 2, 128, 256
    g = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(1, n, width, generator=g, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(heads * d, width, generator=g, device="cuda", dtype=torch.bfloat16) / 16
    symbols = symbols_for(n)
    rows = torch.from_numpy(
        symbols.to_block_mask()[0].repeat(64, 2).transpose(0, 2, 1)[..., None]
    ).cuda()
    dense = flashomni.gemm_q(x, PackedWeight(w, head_dim=d))
    assert oracle.error(dense.flatten(2).double().cpu(), (x.double() @ w.double().T).cpu()) < BF16
    assert torch.equal(
        flashomni.gemm_q(x, PackedWeight(w, head_dim=d), symbols), torch.where(rows, dense, 0)
    )
    ones = Symbols.ones(n, heads=heads).to("cuda")
    assert torch.equal(flashomni.gemm_q(x, PackedWeight(w, head_dim=d), ones), dense)
    late = flashomni.gemm_q(x, PackedWeight(w, head_dim=d), tokens=n + 64, token_offset=64)
    assert torch.equal(late[:, 64:], dense) and not late[:, :64].any(), "rows before x are zeros"
    wo = torch.randn(width, heads * d, generator=g, device="cuda", dtype=torch.bfloat16) / 16
    factors = torch.randn(1, 1, n, heads, d, generator=g, device="cuda", dtype=torch.bfloat16)
    out, planes = flashomni.gemm_o_update(factors, PackedWeight(wo), symbols)
    assert (
        oracle.error(out.double().cpu(), (factors[0].flatten(2).double() @ wo.double().T).cpu())
        < BF16
    )
    again = flashomni.gemm_o(
        factors[0], PackedWeight(wo), symbols, planes=planes, coefficients=[1.0]
    )
    assert oracle.error(again.double().cpu(), out.double().cpu()) < BF16


@pytest.mark.parametrize("name", ["dev", "flux cfg", "hunyuan", "wan"])
def test_pipelines(name):
    """Zero sparsity stays within a bfloat16 run's own distance from torch's attention; sparse runs skip."""
    pytest.importorskip("diffusers")
    import tiny
    from test_diffusers import relative

    makers = {
        "dev": (lambda: tiny.flux(head_dim=64), tiny.flux_inputs(size=256)),
        "flux cfg": (lambda: tiny.flux(head_dim=64), tiny.flux_inputs(cfg=True, size=256)),
        "hunyuan": (lambda: tiny.hunyuan(head_dim=64), tiny.hunyuan_inputs()),
        "wan": (lambda: tiny.wan(head_dim=64), tiny.wan_inputs()),
    }
    make, given = makers[name]
    pipe = make()
    reference = tiny.run(pipe, given)
    pipe.to("cuda", torch.bfloat16)
    given = {
        k: x.to("cuda", torch.bfloat16) if torch.is_tensor(x) and x.is_floating_point()
        else x.to("cuda") if torch.is_tensor(x) else x
        for k, x in given.items()
    }  # fmt: skip
    wanted = tiny.run(pipe, given).float().cpu()
    # Blocks of 64 and larger pictures than on the CPU: with its own choice, 128, and a block or two of
    # tokens there is nothing to skip.
    options = {"schedule_steps": 0, "warmup": 2, "interval": 3, "ramp": 0.0, "block_q": 64, "block_kv": 64}
    with flashomni.apply(pipe, tau_q=0.0, tau_kv=0.0, **options):
        ours = tiny.run(pipe, given).float().cpu()
    assert relative(ours, reference) < 3 * relative(wanted, reference)
    with flashomni.apply(pipe, tau_q=0.6, tau_kv=0.4, **options) as handle:
        tiny.run(pipe, given)
        print(handle.report())
        assert handle.report().to_dict()["models"][0]["attention_sparsity"] > 0
    assert torch.equal(tiny.run(pipe, given).float().cpu(), wanted)

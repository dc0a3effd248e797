# SPDX-License-Identifier: Apache-2.0
"""The plug-in together with what people also use: torch.compile, LoRA, offloading, fused projections,
autocast and other types."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import tiny  # noqa: E402
from test_diffusers import PIPELINES, SPARSE, relative  # noqa: E402

import flashomni  # noqa: E402


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["dev", "hunyuan", "wan"])
def test_compiled_models_run_sparse_in_one_graph(name):
    """fullgraph=True raises on any graph break; the same graph serves Full, Update and Dispatch steps."""
    make, inputs = PIPELINES[name]
    pipe, inputs = make(), inputs()
    with flashomni.apply(pipe, "flashomni", **{**SPARSE, "S_q": 0.0}):
        eager = tiny.run(pipe, inputs)
    graphs = []

    def counting(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    pipe.transformer.compile(fullgraph=True, backend=counting)
    with flashomni.apply(pipe, "flashomni", **SPARSE) as handle:
        compiled = tiny.run(pipe, inputs)
        report = handle.report()
    assert relative(compiled, eager) < 1e-4
    assert len(graphs) == 1, "no graph was made again for another kind of step"
    assert report.to_dict()["models"][0]["attention_sparsity"] > 0
    assert report.to_dict()["models"][0]["degraded_share"] == 0
    assert "do not degrade in a compiled model" in str(report)


def test_compiled_before_or_as_a_wrapper():
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    with flashomni.apply(pipe, **{**SPARSE, "S_q": 0.0}):
        eager = tiny.run(pipe, inputs)
    pipe.transformer = torch.compile(pipe.transformer, fullgraph=True, backend="aot_eager")
    with flashomni.apply(pipe, **SPARSE) as handle:
        assert relative(tiny.run(pipe, inputs), eager) < 1e-4
        assert "do not degrade" in str(handle.report())


def add_lora(pipe, seed=0):
    from peft import LoraConfig

    pipe.transformer.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_k", "proj_out", "to_out.0"])
    )
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in pipe.transformer.named_parameters():
            if "lora_B" in name:
                p.copy_(0.5 * torch.randn(p.shape, generator=g))


def test_lora_weights_fused_under_a_live_handle():
    """Fusing edits weights in place, through .data: the engine's copies must follow."""
    pytest.importorskip("peft")
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    plain = tiny.run(pipe, inputs)
    zero = {**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}
    weight = pipe.transformer.single_transformer_blocks[0].attn.to_q.weight
    delta = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    with flashomni.apply(pipe, **zero, gemm_q=True, gemm_o=True):
        assert relative(tiny.run(pipe, inputs), plain) < 2e-5
        weight.data += delta
        ours = tiny.run(pipe, inputs)
    fused = tiny.run(pipe, inputs)
    assert relative(fused, plain) > 1e-3
    assert relative(ours, fused) < 2e-5


def test_lora_layers_run_and_the_report_says_what_runs_dense():
    pytest.importorskip("peft")
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    plain = tiny.run(pipe, inputs)
    add_lora(pipe)
    dense = tiny.run(pipe, inputs)
    assert relative(dense, plain) > 1e-3
    with flashomni.apply(pipe, **{**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}):
        assert relative(tiny.run(pipe, inputs), dense) < 2e-5
    with flashomni.apply(pipe, **SPARSE) as handle:
        tiny.run(pipe, inputs)
        text = str(handle.report())
    assert "GEMM-Q" in text and "not a plain Linear" in text
    with (
        flashomni.apply(pipe, **SPARSE, gemm_q=True),
        pytest.raises(
            flashomni.UnsupportedError, match="gemm_q=True, but q of .* not a plain Linear"
        ),
    ):
        tiny.run(pipe, inputs)


def test_sequential_offloading():
    """Hooks of accelerate on every module, put on before and after apply."""
    pytest.importorskip("accelerate")
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_module

    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    dense = tiny.run(pipe, inputs)
    # The pipeline asks its first module for the device to run on.
    cpu_offload(pipe.vae, execution_device=torch.device("cpu"))
    zero = {**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}
    for first in (True, False):
        if first:
            cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
        handle = flashomni.apply(pipe, **zero)
        if not first:
            cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
        assert relative(tiny.run(pipe, inputs), dense) < 2e-5
        handle.remove()
        assert torch.equal(tiny.run(pipe, inputs), dense)
        remove_hook_from_module(pipe.transformer, recurse=True)
        assert torch.equal(tiny.run(pipe, inputs), dense)


def test_fused_projections():
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    dense = tiny.run(pipe, inputs)
    pipe.transformer.fuse_qkv_projections()
    with flashomni.apply(pipe, **{**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}):
        assert relative(tiny.run(pipe, inputs), dense) < 2e-5
    with flashomni.apply(pipe, **SPARSE) as handle:
        tiny.run(pipe, inputs)
        assert "fused projections" in str(handle.report())


def test_bfloat16_models_and_autocast():
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    dense = tiny.run(pipe, inputs)
    zero = {**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}
    with torch.autocast("cpu", torch.bfloat16):
        wanted = tiny.run(pipe, inputs)
        with flashomni.apply(pipe, **zero):
            ours = tiny.run(pipe, inputs)
    bound = 3 * relative(wanted.float(), dense)
    assert relative(ours.float(), dense) < bound
    pipe.transformer.to(torch.bfloat16)
    half = {k: v.bfloat16() if torch.is_tensor(v) else v for k, v in inputs.items()}
    wanted = tiny.run(pipe, half)
    with flashomni.apply(pipe, **zero):
        ours = tiny.run(pipe, half)
    assert ours.dtype == wanted.dtype
    assert relative(ours.float(), dense) < 3 * relative(wanted.float(), dense)


def test_training_is_refused():
    model = tiny.flux_transformer()
    x = torch.randn(1, 64, 16, requires_grad=True)
    rest = {
        "encoder_hidden_states": torch.randn(1, 20, 32),
        "pooled_projections": torch.randn(1, 24),
        "timestep": torch.ones(1),
        "guidance": torch.ones(1),
        "img_ids": torch.randn(64, 3),
        "txt_ids": torch.randn(20, 3),
        "return_dict": False,
    }
    with flashomni.apply(model, **SPARSE, gemm_q=False) as handle, handle.run(steps=2):
        y = model(hidden_states=x, **rest)[0]
        with pytest.raises(NotImplementedError, match="inference"):
            y.sum().backward()

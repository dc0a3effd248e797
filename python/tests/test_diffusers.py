# SPDX-License-Identifier: Apache-2.0
"""flashomni.apply on tiny FLUX, HunyuanVideo and Wan pipelines on the CPU, in float32."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import emulation  # noqa: E402
import tiny  # noqa: E402

import flashomni  # noqa: E402

# Blocks of 32, so that tiny sequences have some; steps as they are given, not scaled.
BLOCKS = {"block_q": 32, "block_kv": 32, "schedule_steps": 0}
SPARSE = {**BLOCKS, "warmup": 2, "interval": 3, "ramp": 0.0, "tau_q": 0.6, "tau_kv": 0.4}
PIPELINES = {
    "dev": (lambda: tiny.flux("dev"), lambda: tiny.flux_inputs()),
    "schnell": (lambda: tiny.flux("schnell"), lambda: tiny.flux_inputs(steps=4)),
    "flux cfg": (lambda: tiny.flux("dev"), lambda: tiny.flux_inputs(cfg=True)),
    "flux batch": (lambda: tiny.flux("dev"), lambda: tiny.flux_inputs(batch=3)),
    "hunyuan": (tiny.hunyuan, lambda: tiny.hunyuan_inputs()),
    "hunyuan batch": (tiny.hunyuan, lambda: tiny.hunyuan_inputs(lengths=(7, 12, 12))),
    "hunyuan cfg": (tiny.hunyuan, lambda: tiny.hunyuan_inputs(lengths=(5,), cfg=True)),
    "wan": (tiny.wan, lambda: tiny.wan_inputs()),
    "wan batch": (tiny.wan, lambda: tiny.wan_inputs(batch=2, cfg=False)),
    "wan 2.2": (lambda: tiny.wan(two=True), lambda: tiny.wan_inputs()),
}


def relative(a, b):
    return float((a - b).abs().max() / b.std())


def attention_modules(transformer):
    if hasattr(transformer, "blocks"):
        return [b.attn1 for b in transformer.blocks]
    return [
        b.attn for b in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    ]


def footprint(pipe):
    """Everything apply touches: instance attributes of modules and scheduler, hooks and weights."""
    seen = {"scheduler": sorted(vars(pipe.scheduler))}
    for part in ("transformer", "transformer_2"):
        model = getattr(pipe, part, None)
        if model is None:
            continue
        for name, module in model.named_modules():
            seen[part, name] = (
                sorted(vars(module)),
                id(vars(module).get("processor")),
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
            )
        seen[part] = [p.clone() for p in model.parameters()]
    return seen


def same(a, b):
    if isinstance(a, list) and a and isinstance(a[0], torch.Tensor):
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("name", PIPELINES)
def test_zero_sparsity_is_dense_and_remove_restores(name):
    make, inputs = PIPELINES[name]
    pipe, inputs = make(), inputs()
    dense = tiny.run(pipe, inputs)
    before = footprint(pipe)
    handle = flashomni.apply(pipe, "flashomni", **{**SPARSE, "tau_q": 0.0, "tau_kv": 0.0})
    ours = tiny.run(pipe, inputs)
    assert not torch.equal(ours, dense), "another kernel rounds differently somewhere"
    assert relative(ours, dense) < 2e-5
    report = handle.report()
    assert all(m["attention_sparsity"] == 0 for m in report.to_dict()["models"])
    assert "tau_q and tau_kv are both 0" in str(report)
    handle.remove()
    after = footprint(pipe)
    assert before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    assert torch.equal(tiny.run(pipe, inputs), dense)


def test_dense_strategy_equals_zero_sparsity_to_the_bit():
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    with flashomni.apply(pipe, "dense"):
        dense = tiny.run(pipe, inputs)
    with flashomni.apply(pipe, "flashomni", **{**SPARSE, "tau_q": 0.0, "tau_kv": 0.0, "S_q": 0.0}):
        assert torch.equal(tiny.run(pipe, inputs), dense)


def recorded(handle):
    """{(layer, update, stream): (rows, pairs)} on token level, from the kept symbols."""
    masks, streams = {}, {}
    names = list(dict.fromkeys(s["layer"] for s in handle.symbols()))
    for s in handle.symbols():
        key = (names.index(s["layer"]), s["step"])
        stream = streams[key] = streams.get(key, -1) + 1
        g = s["symbols"].geometry
        rows = s["symbols"].to_block_mask()[0].repeat(g.block_q, 2)[:, :, : g.q_tokens]
        masks[(*key, stream)] = (torch.from_numpy(rows), torch.from_numpy(s["symbols"].to_dense()))
    return masks


@pytest.mark.parametrize("gemms", [True, False])
@pytest.mark.parametrize("name", ["dev", "flux cfg", "flux batch", "hunyuan", "hunyuan cfg", "wan"])
def test_sparse_runs_match_plain_torch(name, gemms):
    """The whole pipeline against masks, forecasts and torch's attention, replayed from the symbols."""
    make, inputs = PIPELINES[name]
    pipe, inputs = make(), inputs()
    dense = tiny.run(pipe, inputs)
    options = {**SPARSE, "S_q": 0.0, "prime": False, "order": 1}
    part = "auto" if gemms else False
    with flashomni.apply(
        pipe, "flashomni", gemm_q=part, gemm_o=part, keep_symbols=True, **options
    ) as handle:
        ours = tiny.run(pipe, inputs)
        report = handle.report().to_dict()["models"][0]
        masks = recorded(handle)
    assert report["attention_sparsity"] > 0.05
    if name != "wan":
        assert (report["gemm_o_sparsity"] > 0) == gemms
        assert (report["gemm_q_sparsity"] > 0) == gemms
        assert any(not rows.all() for rows, _ in masks.values()), "some rows are cached"
    kinds = [s["kind"] for s in report["steps"]]
    assert kinds == [
        "full",
        "update",
        "dispatch",
        "dispatch",
        "update",
        "dispatch",
        "dispatch",
        "full",
    ]
    replay = emulation.Emulation(kinds, masks, order=1)
    with emulation.replaying(pipe, replay, attention_modules(pipe.transformer)):
        wanted = tiny.run(pipe, inputs)
    assert relative(ours, wanted) < 1e-4
    assert relative(ours, dense) > 1e-3, "and skipping changed something"


def test_degraded_layers_reuse_their_module_outputs():
    """S_q = 1 degrades every layer at the first Update: a Dispatch step is gates on stored outputs, which
    plain torch repeats here for the single blocks' sum and the double blocks' four sites."""
    pipe, inputs = tiny.flux(), tiny.flux_inputs(steps=5)
    options = {**SPARSE, "S_q": 1.0, "degrade_order": 0, "interval": 0, "prime": False}
    with flashomni.apply(pipe, "flashomni", **options) as handle:
        ours = tiny.run(pipe, inputs)
        report = handle.report().to_dict()["models"][0]
    assert [s["kind"] for s in report["steps"]] == [
        "full",
        "update",
        "dispatch",
        "dispatch",
        "full",
    ]
    assert report["degraded_share"] == pytest.approx(2 / 5)

    stored, step = {}, {"now": 0}
    model = pipe.transformer

    def reusing(module, original):
        def forward(*args, **kwargs):
            if step["now"] in (2, 3):
                return stored[module]
            stored[module] = original(*args, **kwargs)
            return stored[module]

        return forward

    # Module outputs before gating; attention of a double block is a pair of them.
    sites = [m for b in model.transformer_blocks for m in (b.attn, b.ff, b.ff_context)]
    sites += [b.proj_out for b in model.single_transformer_blocks]
    for m in sites:
        m.forward = reusing(m, m.forward)
    hook = model.register_forward_hook(lambda *_: step.update(now=step["now"] + 1))
    wanted = tiny.run(pipe, inputs)
    hook.remove()
    assert relative(ours, wanted) < 2e-5


def test_kontext_and_other_sizes_in_one_process():
    pipe = tiny.flux("kontext")
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    inputs = [
        tiny.flux_inputs(image=picture, size=size, max_area=size * size, _auto_resize=False)
        for size in (128, 192, 128)
    ]
    dense = [tiny.run(pipe, i) for i in inputs]
    with flashomni.apply(pipe, "flashomni", **{**SPARSE, "tau_q": 0.0, "tau_kv": 0.0}):
        for i, wanted in zip(inputs, dense, strict=True):
            assert relative(tiny.run(pipe, i), wanted) < 2e-5
    with flashomni.apply(pipe, "flashomni", **SPARSE) as handle:
        first, _, third = (tiny.run(pipe, i) for i in inputs)
        assert torch.equal(first, third), "a run leaves nothing behind"
        assert handle.report().to_dict()["models"][0]["attention_sparsity"] > 0


def test_a_loop_of_your_own():
    model = tiny.flux_transformer()
    x = {
        "hidden_states": torch.randn(1, 64, 16),
        "encoder_hidden_states": torch.randn(1, 20, 32),
        "pooled_projections": torch.randn(1, 24),
        "timestep": torch.ones(1),
        "guidance": torch.ones(1),
        "img_ids": torch.randn(64, 3),
        "txt_ids": torch.randn(20, 3),
        "return_dict": False,
    }
    with torch.no_grad(), flashomni.apply(model, "flashomni", **SPARSE) as handle:
        with pytest.raises(ValueError, match="outside of a run"):
            model(**x)
        with handle.run(steps=6):
            for _ in range(6):
                model(**x)
                handle.end_step()
        assert [s["kind"] for s in handle.report().to_dict()["models"][0]["steps"]][-1] == "full"
        with handle.run(steps=2):
            model(**x)
            handle.end_step()
            with pytest.raises(ValueError, match="run that began with"):
                model(
                    **{**x, "hidden_states": torch.randn(1, 63, 16), "img_ids": torch.randn(63, 3)}
                )


def test_reports():
    pipe, inputs = tiny.flux(), tiny.flux_inputs()
    with flashomni.apply(pipe, {"strategy": "flashomni", "options": SPARSE}) as handle:
        assert str(handle.report()) == "no run yet"
        tiny.run(pipe, inputs)
        report = handle.report()
    record = report.to_dict()["models"][0]
    for key in (
        "attention_sparsity",
        "dispatch_sparsity",
        "gemm_q_sparsity",
        "peak_cache_bytes",
        "fallbacks",
    ):
        assert key in record
    assert record["strategy"]["options"]["tau_q"] == 0.6
    assert len(record["layers"]) == 8 and len(record["layers"][0][0]) == 4
    steps = [s["attention_sparsity"] for s in record["steps"]]
    assert np.mean(steps) == pytest.approx(record["attention_sparsity"])
    assert "of attention skipped" in str(report) and "4 dispatch" in str(report)
    page = report.to_html()
    assert page.startswith("<!DOCTYPE html>") and "Attention left out, by step and layer" in page
    assert "dispatch" in page and "<script" not in page and "ran dense" in page
    assert "&lt;!DOCTYPE html&gt;" in report._repr_html_()


def test_refusals():
    from diffusers import UNet2DModel

    class Other:
        transformer = torch.nn.Linear(2, 2)

    with pytest.raises(
        flashomni.UnsupportedError, match="Linear; supported: FluxTransformer2DModel"
    ):
        flashomni.apply(Other())
    with pytest.raises(flashomni.UnsupportedError, match="no transformer"):
        flashomni.apply(object())
    assert UNet2DModel is not None
    pipe = tiny.flux()
    before = footprint(pipe)
    with pytest.raises(ValueError, match="no_such"):
        flashomni.apply(pipe, "no_such")
    with pytest.raises(ValueError, match="tau_z"):
        flashomni.apply(pipe, tau_z=1)
    with pytest.raises(ValueError, match="gemm_q"):
        flashomni.apply(pipe, gemm_q="maybe")
    handle = flashomni.apply(pipe)
    with pytest.raises(ValueError, match="already"):
        flashomni.apply(pipe)
    handle.remove()
    handle.remove()
    with pytest.raises(RuntimeError, match="removed"):
        handle.report()
    after = footprint(pipe)
    assert all(same(before[k], after[k]) for k in before)
    # A head size that no kernel has is refused in the first step, not run dense.
    pipe = tiny.flux(head_dim=264)
    with (
        flashomni.apply(pipe, **SPARSE),
        pytest.raises(NotImplementedError, match="head_dim is 264"),
    ):
        tiny.run(pipe, tiny.flux_inputs())
    model = tiny.hunyuan_transformer()
    model.register_to_config(image_condition_type="latent_concat")
    with pytest.raises(flashomni.UnsupportedError, match="latent_concat"):
        flashomni.apply(model)

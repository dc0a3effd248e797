# SPDX-License-Identifier: Apache-2.0
"""The Update-Dispatch paradigm in plain torch, to judge the plug-in by: masks, Taylor forecasts and
torch's own attention, driven by recorded symbols and step kinds. Shares no code with the engine."""

import contextlib

import torch
from torch.nn.functional import scaled_dot_product_attention


class Emulation:
    """Replays a run: `kinds` of its steps, `masks[(layer, update)]` = (rows on, pairs on)."""

    def __init__(self, kinds, masks, order):
        self.kinds, self.masks, self.order = kinds, masks, order
        self.step = 0
        self.updates = [i for i, kind in enumerate(kinds) if kind == "update"]
        self.features = {}  # (stream, layer) -> (step, [F_0, F_1])

    def attention(self, key, layer, stream, q, k, v, mask=None):
        """q, k, v [B, N, H, d]."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        kind = self.kinds[self.step]
        if kind != "dispatch":
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
            if kind == "update" and self.step < len(self.kinds) - 1:
                last = self.features.get(key)
                factors = [out]
                if last is not None and self.order > 0:
                    factors.append((out - last[1][0]) / (self.step - last[0]))
                self.features[key] = (self.step, factors)
            return out
        update = max(u for u in self.updates if u < self.step)
        rows, pairs = self.masks[(layer, update, stream)]
        n = q.shape[2]
        full = torch.zeros(q.shape[:3] + (n,), dtype=torch.bool)
        m = pairs.shape[2]
        full[:, :, :m, :m] = pairs
        full[:, :, m:, :m] = True  # padding, read by nobody
        if mask is not None:
            full &= mask
        out = scaled_dot_product_attention(q, k, v, attn_mask=full | ~full.any(-1, keepdim=True))
        out = out.transpose(1, 2)
        when, factors = self.features[key]
        forecast = sum(f * (self.step - when) ** i for i, f in enumerate(factors))
        on = torch.ones(out.shape[:3] + (1,), dtype=torch.bool)
        on[:, :m] = rows.transpose(1, 2)[..., None]
        return torch.where(on, out, forecast)


@contextlib.contextmanager
def replaying(pipe, emulation, layers):
    """diffusers' own processors, with their attention call replaced by the emulation. `layers` names the
    attention modules in order."""
    import diffusers.models.transformers as transformers

    modules = [getattr(transformers, f"transformer_{n}") for n in ("flux", "hunyuan_video", "wan")]
    originals = [m.dispatch_attention_fn for m in modules]
    state = {"layer": None, "stream": -1}

    def watch(index):
        def before(module, args, kwargs):
            if index == 0:
                state["stream"] += 1
            state["layer"] = index

        return before

    hooks = [a.register_forward_pre_hook(watch(i), with_kwargs=True) for i, a in enumerate(layers)]
    hooks += [a.register_forward_hook(lambda *_: state.update(layer=None)) for a in layers]

    def dispatch(original):
        def attention(query, key, value, attn_mask=None, **kwargs):
            if state["layer"] is None:
                return original(query, key, value, attn_mask=attn_mask, **kwargs)
            name = (state["stream"], state["layer"])
            return emulation.attention(
                name, state["layer"], state["stream"], query, key, value, attn_mask
            )

        return attention

    step = pipe.scheduler.step

    def counted(*args, **kwargs):
        emulation.step += 1
        state["stream"] = -1
        return step(*args, **kwargs)

    pipe.scheduler.step = counted
    for m, original in zip(modules, originals, strict=True):
        m.dispatch_attention_fn = dispatch(original)
    try:
        yield
    finally:
        del pipe.scheduler.step
        for m, original in zip(modules, originals, strict=True):
            m.dispatch_attention_fn = original
        for hook in hooks:
            hook.remove()

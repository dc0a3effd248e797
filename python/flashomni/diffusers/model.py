# SPDX-License-Identifier: Apache-2.0
"""One transformer under the engine: installs processors and blocks, keeps the session, restores."""

from __future__ import annotations

import json
from typing import Any

from .. import _core
from ..errors import UnsupportedError
from ..strategies import Strategy
from ..torch_ops import ops, torch
from .context import Context, Processor
from .families import Family
from .weights import ROLES, fingerprint, norm_arguments, unpackable


class Model:
    """A transformer of the pipeline. `install` and `remove` are exact opposites."""

    def __init__(
        self,
        name: str,
        transformer: Any,
        family: Family,
        strategy: Strategy,
        gemm_q: bool | str,
        gemm_o: bool | str,
        keep_symbols: bool,
        owner: Any,
    ):
        self._owner = owner  # whose attribute `name` this transformer is; it may be wrapped later
        self.name = name
        self.transformer = transformer
        self.family = family
        self.strategy = strategy
        self.wanted = {"gemm_q": gemm_q, "gemm_o": gemm_o}
        self.keep_symbols = keep_symbols
        self.context = Context()
        self.layers = family.layers(transformer)
        self.session: _core.Session | None = None
        self._device: torch.device | None = None
        self._packed: dict[str, list[int]] = {}  # role -> fingerprints
        self._undo: list[Any] = []
        for layer in self.layers:
            if isinstance(layer.attn.processor, Processor):
                raise ValueError(
                    f"{name} runs on flashomni already; call remove() of its handle first"
                )

    # ---- in and out

    def install(self) -> None:
        for index, layer in enumerate(self.layers):
            self._swap(layer.attn, "processor", self.family.processor(self.context, index, layer))
            forward = self.family.block_forward(self.context, index, layer, layer.block.forward)
            if forward is not None:
                self._swap(layer.block, "forward", forward)
            for module, site in layer.modules:
                hook = module.register_forward_hook(self._keeper(index, site))
                self._undo.append(hook.remove)
            if layer.mlp_width:
                out = layer.parts[0].out
                self._swap(out, "forward", self._joint_output(index, layer, out.forward))

    def remove(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if self.session is not None:
            self.session.end_run()
            self.session.close()
            self.session = None
        self.context = Context()
        self._packed = {}

    def _swap(self, owner: Any, attribute: str, value: Any) -> None:
        """Sets an attribute of one object, and remembers how to take it back."""
        had = attribute in vars(owner)
        old = vars(owner).get(attribute)
        setattr(owner, attribute, value)

        def undo() -> None:
            wrapped = vars(owner).get("_old_forward")
            if (
                attribute == "forward"
                and wrapped is value
                and vars(owner).get("forward") is not value
            ):
                # Offloading put its own wrapper on top of ours since.
                owner._old_forward = old if had else type(owner).forward.__get__(owner)
            elif had:
                setattr(owner, attribute, old)
            else:
                delattr(owner, attribute)

        self._undo.append(undo)

    def _keeper(self, index: int, site: int):
        context = self.context

        def keep(module, args, output):
            if context.degrade and not torch.compiler.is_compiling():
                ops.session_store_module(output, context.session, index, site)
            return output

        return keep

    def _joint_output(self, index: int, layer: Any, original: Any):
        """proj_out of a single block, which takes [attention | MLP]: GEMM-O follows the symbols."""
        context, width, heads = self.context, layer.width, layer.heads
        keep = self._keeper(index, 0)

        def forward(x):
            if not context.gemm_o:
                return keep(None, None, original(x))
            attended = x[..., :width].unflatten(-1, (heads, -1))
            rows = x.shape[1]
            y = ops.session_project_out(
                attended, x[..., width:], context.session, index, 0, 0, rows, width
            )
            return keep(None, None, y.to(x.dtype))

        return forward

    # ---- runs

    def begin_run(self, steps: int, device: torch.device) -> None:
        if self._device != device or self.session is None:
            self._open(device)
        self.session.end_run()
        reasons = {
            "gemm_q": self.family.dense_gemm_q or self._prepare("gemm_q", ("q", "k", "v"), device),
            "gemm_o": self._prepare("gemm_o", ("out",), device),
            "degrade": self._cannot_degrade(),
        }
        self.context.gemm_q = not reasons["gemm_q"]
        self.context.gemm_o = not reasons["gemm_o"]
        self.context.degrade = not reasons["degrade"] and all(layer.sites for layer in self.layers)
        self.context.forget()
        self.session.set_run_options(
            dense_gemm_q=reasons["gemm_q"],
            dense_gemm_o=reasons["gemm_o"],
            no_degrade=reasons["degrade"],
            keep_symbols=self.keep_symbols,
        )
        self.session.begin_run(steps)

    def _open(self, device: torch.device) -> None:
        if device.type not in _core.backends():
            raise UnsupportedError(
                f"the pipeline runs on {device}, this build has {', '.join(_core.backends())}; "
                "build flashomni where nvcc 12.8 or newer is found, or move the pipeline"
            )
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UnsupportedError(f"the pipeline runs on {device}, but torch sees no GPU")
        dtype = next(self.transformer.parameters()).dtype
        if device.type == "cuda" and dtype not in (torch.bfloat16, torch.float16):
            raise UnsupportedError(
                f"{self.name} is {dtype} on {device}; supported there: torch.bfloat16 and torch.float16"
            )
        if self.session is not None:
            self.session.end_run()
            self.session.close()
        specs = [
            (layer.name, layer.width, layer.other_flops_per_token, layer.sites)
            for layer in self.layers
        ]
        record = json.dumps(self.strategy.to_dict())
        self.session = _core.Session(device.type, device.index or 0, record, specs)
        self.context.session = self.session.id
        self._device = device
        self._packed = {}

    def _cannot_degrade(self) -> str:
        """Why no layer may be left out whole; empty if they may."""
        compiled = [self.transformer, *(layer.block for layer in self.layers)]
        wrapped = hasattr(getattr(self._owner, self.name, None), "_orig_mod")
        if wrapped or any(getattr(m, "_compiled_call_impl", None) is not None for m in compiled):
            return "layers do not degrade in a compiled model: its graph is one for all steps"
        return ""

    def _prepare(self, part: str, roles: tuple[str, ...], device: torch.device) -> str:
        """Packs the weights of a projection, or says why it runs dense."""
        if self.wanted[part] is False:
            return f"switched off ({part}=False)"
        for layer in self.layers:
            if getattr(layer.attn, "fused_projections", False) and part == "gemm_q":
                return self._refusal(part, f"{layer.name} has fused projections")
            for projection in layer.parts:
                for role in roles:
                    why = unpackable(getattr(projection, role), device)
                    if why:
                        return self._refusal(part, f"{role} of {layer.name} {why}")
        for role in roles:
            self._pack(role)
        return ""

    def _refusal(self, part: str, why: str) -> str:
        if self.wanted[part] is True:
            raise UnsupportedError(f"{part}=True, but {why}")
        return why

    def _pack(self, role: str) -> None:
        """Copies what changed since the last run into the engine."""
        modules = [
            (index, number, projection)
            for index, layer in enumerate(self.layers)
            for number, projection in enumerate(layer.parts)
        ]
        tensors = []
        for _, _, projection in modules:
            module = getattr(projection, role)
            norm = getattr(projection, f"norm_{role}", None)
            tensors += [
                t for t in (module.weight, module.bias, norm_arguments(norm)[0]) if t is not None
            ]
        seen = fingerprint(tensors)
        if self._packed.get(role) == seen:
            return
        for index, number, projection in modules:
            module = getattr(projection, role)
            weight, eps = norm_arguments(getattr(projection, f"norm_{role}", None))
            head_dim = 0 if role == "out" else self.layers[index].head_dim
            ops.session_set_weight(
                self.context.session, index, ROLES[role], number, module.weight.detach(),
                None if module.bias is None else module.bias.detach(), head_dim,
                None if weight is None else weight.detach(), eps,
            )  # fmt: skip
        self._packed[role] = seen

    def end_step(self) -> None:
        if self.session is not None:
            self.session.end_step()

    def end_run(self) -> None:
        if self.session is not None:
            self.session.end_run()

    def report(self) -> dict[str, Any]:
        if self.session is None:
            return {}
        return {"model": self.name, **json.loads(self.session.report_json())}

    def report_html(self) -> str:
        """Sections of the report's page."""
        return "" if self.session is None else self.session.report_html()

# SPDX-License-Identifier: Apache-2.0
"""A model of your own: symbols from its queries and keys at one step, sparse attention at the next ones,
compiled without graph breaks.

    python python/examples/own_model.py
"""

import torch

import flashomni


class Attention(torch.nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.heads = heads
        self.symbols = None

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return self.out(flashomni.attention(q, k, v, self.symbols).flatten(2))

    def update(self, x):
        """Chooses what to skip: in every row the blocks with the least pooled attention, 30 % of its sum."""
        q, k, _ = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        self.symbols = flashomni.build_symbols(q, k, skip=0.3)


torch.manual_seed(0)
layer = Attention(width=256, heads=4).eval()
x = torch.randn(1, 1024, 256)
with torch.no_grad():
    dense = layer(x)
    layer.update(x)
    sparse = layer(x)
    print(layer.symbols)
    print(
        "difference to dense:", float((sparse - dense).abs().max() / dense.std()), "of its spread"
    )
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    print("compiled gives the same bits:", torch.equal(compiled(x), sparse))

# SPDX-License-Identifier: Apache-2.0
"""Block-sparse attention as a function, on NumPy arrays and, where torch is installed, on tensors.

python python/examples/sparse_attention.py
"""

import numpy as np

import flashomni

batch, tokens, heads, head_dim = 1, 1000, 4, 64
rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((batch, tokens, heads, head_dim), np.float32) for _ in range(3))

# Every block of 64 queries sees the blocks within two of its own, in all heads.
blocks = -(-tokens // 64)
near = np.abs(np.subtract.outer(np.arange(blocks), np.arange(blocks))) <= 2
symbols = flashomni.Symbols.from_block_mask(near, tokens, heads=heads)
print(symbols)
print(symbols.picture())

out = flashomni.attention(q, k, v, symbols)
dense = flashomni.attention(q, k, v)
print("difference to dense:", float(np.abs(out - dense).max()))
same = flashomni.attention(q, k, v, flashomni.Symbols.ones(tokens, heads=heads))
print("zero sparsity is dense to the bit:", np.array_equal(same, dense))

try:
    import torch
except ImportError:
    print("torch is not installed: NumPy only")
else:
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    print(
        "torch gives the same bits:",
        np.array_equal(flashomni.attention(*tensors, symbols).numpy(), out),
    )

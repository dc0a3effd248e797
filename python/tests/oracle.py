# SPDX-License-Identifier: Apache-2.0
"""Attention and its neighbours in float64 NumPy, from plain masks; shares no code with the engine."""

import numpy as np

# Bound of error() for float32: scores around 10 round to 1e-6, which exp makes relative.
F32 = 3e-5


def attention(q, k, v, pairs=None, scale=None):
    """softmax over the pairs that are on; q [B,N,H,d], pairs bool [B,H,N,Nkv]. Rows without any: 0."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    scores = np.einsum("bnhd,bmhd->bhnm", q, k) * (scale or q.shape[-1] ** -0.5)
    if pairs is not None:
        scores = np.where(pairs, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = np.nan_to_num(weights)
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.einsum("bhnm,bmhd->bnhd", weights, v)


def block_mask(rng, batch, heads, nq, nkv, density):
    """A random block mask without empty rows."""
    mask = rng.random((batch, heads, nq, nkv)) < density
    mask[..., 0] |= ~mask.any(-1)
    return mask


def error(seen, wanted):
    """Largest difference, relative to the spread of the truth."""
    wanted = np.asarray(wanted, np.float64)
    return float(np.abs(np.asarray(seen, np.float64) - wanted).max() / max(wanted.std(), 1e-30))

"""Reductions over the entries that count: those the mask keeps and that are finite.

One NaN must not poison a mean, so a non-finite entry is left out here; how many there were is a metric of its own.
Nothing to reduce gives NaN, which means "no value" from here to the sinks: it is never replaced by 0.
Everything is computed in float32, whatever comes in. A reduction goes along the first axis first: XLA vectorises that
on a CPU, while one along the last, or over all at once, waits for each addition.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num


def counted(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """The entries of `x` that the mask keeps and that are finite."""
    return mask & jnp.isfinite(x)


def count(mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """How many entries the mask keeps."""
    # In integers, which may be added in any order and so several at a time, and do not stop growing at 16,777,216.
    return jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)


def lengths(mask: Bool[Array, "batch time"]) -> Float[Array, " batch"]:
    """How many entries of each row the mask keeps."""
    return jnp.sum(mask, axis=1, dtype=jnp.int32).astype(jnp.float32)


def total(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Sum; 0 over nothing."""
    return total_of_finite(x, counted(x, mask))


def total_of_finite(x: Num[Array, "*shape"], valid: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Sum over entries that are known to be finite; 0 over nothing."""
    return _sum(jnp.where(valid, jnp.asarray(x, jnp.float32), 0.0))


def mean(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Mean."""
    return total(x, mask) / count(counted(x, mask))


def minimum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Smallest entry; inf over nothing."""
    kept = jnp.where(counted(x, mask), jnp.asarray(x, jnp.float32), jnp.inf)
    return jnp.min(jnp.min(kept, axis=0, initial=jnp.inf), initial=jnp.inf)


def maximum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Largest entry; -inf over nothing."""
    return -minimum(-x, mask)


def quantiles(x: Num[Array, " batch"], mask: Bool[Array, " batch"], q: tuple[float, ...]) -> Float[Array, " q"]:
    """Quantiles with linear interpolation, as `numpy.quantile`, by sorting.

    For one number a completion. A sort of [batch, time] is slow on a CPU: take those quantiles from a histogram.
    """
    return jnp.nanquantile(jnp.where(counted(x, mask), jnp.asarray(x, jnp.float32), jnp.nan), jnp.array(q))


def _sum(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    return jnp.sum(jnp.sum(x, axis=0))

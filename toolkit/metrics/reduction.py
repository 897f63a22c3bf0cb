"""Reductions over the entries that count: those the mask keeps and that are finite.

One NaN must not poison a mean, so a non-finite entry is left out here; how many there were is a metric of its own.
Nothing to reduce gives NaN, which means "no value" from here to the sinks: it is never replaced by 0.
Everything is computed in float32, whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num


def counted(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """The entries of `x` that the mask keeps and that are finite."""
    return mask & jnp.isfinite(x)


def count(mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """How many entries the mask keeps."""
    return jnp.sum(mask, dtype=jnp.float32)


def total(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Sum; 0 over nothing."""
    return jnp.sum(jnp.where(counted(x, mask), x, 0), dtype=jnp.float32)


def mean(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Mean."""
    return total(x, mask) / count(counted(x, mask))


def variance(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Population variance (divided by n, so that within- and between-group parts add up), in two passes."""
    return mean(jnp.square(jnp.asarray(x, jnp.float32) - mean(x, mask)), counted(x, mask))


def std(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Population standard deviation."""
    return jnp.sqrt(variance(x, mask))


def minimum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Smallest entry."""
    valid = counted(x, mask)
    return _unless_empty(jnp.min(jnp.where(valid, jnp.asarray(x, jnp.float32), jnp.inf), initial=jnp.inf), valid)


def maximum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Largest entry."""
    return -minimum(-x, mask)


def share(condition: Bool[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Share of the kept entries for which the condition holds."""
    return count(condition & mask) / count(mask)


def quantiles(x: Num[Array, " batch"], mask: Bool[Array, " batch"], q: tuple[float, ...]) -> Float[Array, " q"]:
    """Quantiles with linear interpolation, as `numpy.quantile`, by sorting.

    For one number a completion. A sort of [batch, time] is slow on a CPU: take those quantiles from a histogram.
    """
    return jnp.nanquantile(jnp.where(counted(x, mask), jnp.asarray(x, jnp.float32), jnp.nan), jnp.array(q))


def correlation(x: Num[Array, "*shape"], y: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Pearson correlation over the entries that are finite in both; NaN when either does not vary."""
    valid = counted(x, mask) & jnp.isfinite(y)
    # A variance tells less well whether x varies: that of equal entries may be a rounding error instead of 0.
    vary = (minimum(x, valid) < maximum(x, valid)) & (minimum(y, valid) < maximum(y, valid))
    dx = (jnp.asarray(x, jnp.float32) - mean(x, valid)) / std(x, valid)
    dy = (jnp.asarray(y, jnp.float32) - mean(y, valid)) / std(y, valid)
    return jnp.where(vary, mean(dx * dy, valid), jnp.nan)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Bins:
    """A histogram inside jit: counts an array, edges fixed, so that two of the same edges merge by addition."""

    counts: Float[Array, " *leading bins"]
    edges: tuple[float, ...] = field(metadata={"static": True})


def histogram(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"], edges: tuple[float, ...]) -> Bins:
    """How many entries fall into each bin; those outside the edges count in the outermost bins."""
    inner = jnp.array(edges[1:-1], jnp.float32)
    places = jnp.searchsorted(inner, jnp.asarray(x, jnp.float32), side="right")
    weights = counted(x, mask).astype(jnp.float32)
    return Bins(jnp.zeros(len(edges) - 1, jnp.float32).at[places].add(weights), edges)


def histogram_quantile(bins: Bins, q: float) -> Float[Array, ""]:
    """The quantile that the counts imply when entries lie evenly within each bin: exact to a bin's width."""
    below = jnp.cumsum(bins.counts)
    target = q * below[-1]
    # The first bin that reaches the target and is not empty: an empty one holds no entry to be the quantile.
    place = jnp.argmax((below >= target) & (bins.counts > 0))
    edges = jnp.array(bins.edges, jnp.float32)
    inside = (target - (below[place] - bins.counts[place])) / bins.counts[place]
    value = edges[place] + inside * (edges[place + 1] - edges[place])
    return jnp.where(below[-1] > 0, value, jnp.nan)


def _signed_log_edges() -> tuple[float, ...]:
    positive = np.geomspace(1e-3, 1e3, 73)
    return tuple(float(edge) for edge in np.concatenate([-positive[::-1], positive]))


SIGNED_LOG_EDGES = _signed_log_edges()
"""Twelve bins a decade from 0.001 to 1000 on both sides of 0: for values of unknown scale, such as rewards."""

LENGTH_EDGES = (0.0, *(float(2 ** (half / 2)) for half in range(35)))
"""Two bins an octave from 1 to 131,072 tokens."""

ENTROPY_EDGES = tuple(float(edge) for edge in 12.0 * np.linspace(0.0, 1.0, 97) ** 2)
"""Nats from 0 to 12, the logarithm of a vocabulary of 162,755; finer towards 0, where most tokens lie."""


def _unless_empty(x: Float[Array, ""], valid: Bool[Array, "*shape"]) -> Float[Array, ""]:
    return jnp.where(jnp.any(valid), x, jnp.nan)

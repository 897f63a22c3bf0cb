"""Histograms of fixed bins, so that two of the same edges merge by addition, and the quantiles they imply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from toolkit.metrics.reduction import counted


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Bins:
    """How many entries fall into each bin; a statistic (`toolkit.metrics.statistic`) whose value is itself."""

    counts: Float[Array, "*parts bins"]
    edges: tuple[float, ...] = field(metadata={"static": True})

    def merged(self) -> Bins:
        """Counts add."""
        return Bins(jnp.sum(self.counts, axis=0), self.edges)

    @property
    def value(self) -> Bins:
        """The histogram itself."""
        return self


def histogram(
    x: Num[Array, "*shape"],
    mask: Bool[Array, "*shape"],
    edges: tuple[float, ...],
    place: Callable[[Array], Array] | None = None,
) -> Bins:
    """How many entries fall into each bin; those outside the edges count in the outermost bins.

    `place` gives the bin of a number where that can be calculated: much faster than the search among the edges.
    """
    x, last = jnp.asarray(x, jnp.float32), len(edges) - 2
    if place is None:
        places = jnp.searchsorted(jnp.array(edges[1:-1], jnp.float32), x, side="right")
    else:
        places = jnp.clip(place(jnp.where(counted(x, mask), x, 0.0)), 0, last).astype(jnp.int32)
    # Counted in integers: a float32 stops growing at 16,777,216.
    counts = jnp.zeros(last + 1, jnp.int32).at[places].add(counted(x, mask).astype(jnp.int32))
    return Bins(counts.astype(jnp.float32), edges)


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


def entropy_bin(entropy: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The bin of `ENTROPY_EDGES` in which an entropy lies."""
    return jnp.floor(jnp.sqrt(jnp.maximum(entropy, 0.0) * (96.0**2 / 12.0)))

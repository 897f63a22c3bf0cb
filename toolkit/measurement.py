"""A measurement: every metric of a step in one float32 vector, with a static table that says what is where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toolkit.errors import RolloutError
from toolkit.metrics.histogram import Bins
from toolkit.metrics.statistic import Statistic, merged
from toolkit.record import Histogram, Value


@dataclass(frozen=True)
class Column:
    """Where one metric lies in the packed vector: `size` entries, the counts of a histogram when it has edges."""

    key: str
    size: int
    edges: tuple[float, ...] | None

    @cached_property
    def limits(self) -> Float[np.ndarray, " bins_and_one"]:
        """The edges as one array for all rows."""
        limits = np.array(self.edges)
        limits.flags.writeable = False
        return limits


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Measurement:
    """Finished metrics. A pytree, so that a jitted step can return one, and a scan or `vmap` a stack of them."""

    vector: Float[Array, "*steps metrics"]
    columns: tuple[Column, ...] = field(metadata={"static": True})

    def values(self) -> dict[str, Value]:
        """The metrics by key, fetched in one transfer; waits for the computation, so call it off the training thread.

        A metric without a value (NaN: a mean over nothing) is left out.
        """
        host = np.asarray(self.vector, np.float64)
        numbers = host.tolist()
        values: dict[str, Value] = {}
        start = 0
        for column in self.columns:
            if column.edges is not None:
                values[column.key] = Histogram(host[start : start + column.size], column.limits)
            elif not isnan(numbers[start]):
                values[column.key] = numbers[start]
            start += column.size
        return values


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Statistics:
    """What metrics are made of, by key: it merges with others, and is finished when nothing more is to come."""

    by_key: Mapping[str, Statistic]

    def merged(self) -> Statistics:
        """The whole, from parts that `lax.scan` or `vmap` stacked along the first axis of every array."""
        return Statistics(merged(self.by_key))

    def finished(self) -> Measurement:
        """The metrics, packed."""
        return packed({key: statistic.value for key, statistic in self.by_key.items()})


def packed(values: Mapping[str, Array | Bins]) -> Measurement:
    """Numbers and histograms by key, as one vector and the table of what is where."""
    columns, parts = [], []
    for key, value in values.items():
        edges = value.edges if isinstance(value, Bins) else None
        part = jnp.atleast_1d(value.counts if isinstance(value, Bins) else value).astype(jnp.float32)
        columns.append(Column(key, part.size, edges))
        parts.append(part)
    vector = jnp.concatenate(parts) if parts else jnp.zeros(0, jnp.float32)
    return Measurement(vector, tuple(columns))


def merge(*parts: Statistics) -> Statistics:
    """The whole of some parts, which have the same families and fields; raises `RolloutError` where they do not."""
    if len(parts) == 1:
        return parts[0]
    keys = [frozenset(part.by_key) for part in parts]
    odd = sorted(frozenset.union(*keys) - frozenset.intersection(*keys))
    if odd:
        raise RolloutError(f"parts of one step must have the same fields; not all of them give {', '.join(odd)}")
    stacked: Statistics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    return stacked.merged()

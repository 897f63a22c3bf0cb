"""Token statistics block by block: a block stays in the cache while every statistic looks at it, and the blocks merge.

Each statistic of its own would read all tokens from memory again, and write out what it derives from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toolkit.metrics.statistic import Statistic, merged

ByRow: TypeAlias = Mapping[str, Any]
"""Arrays with the batch as their first axis, by name; None for one that is not there."""

TOKENS_IN_A_BLOCK = 8192
"""Measured: 32 KiB an array, so that the five to ten of a family lie in a core's second cache."""


def in_blocks(statistics: Callable[[ByRow], dict[str, Statistic]], by_row: ByRow) -> dict[str, Statistic]:
    """What `statistics` gives for the arrays, of which one is `mask` [batch, time].

    Sharded arrays stay whole: a loop over a sharded axis would gather it on every device.
    """
    given = {name: array for name, array in by_row.items() if array is not None}
    batch, time = given["mask"].shape
    rows = max(1, TOKENS_IN_A_BLOCK // max(1, time))
    if batch <= rows or any(not jax.typeof(array).sharding.mesh.empty for array in given.values()):
        return statistics(by_row)

    def block(number: Array) -> dict[str, Statistic]:
        # The last block begins early enough to be whole; the rows that it shares with the one before count there.
        start = jnp.minimum(number * rows, batch - rows)
        part = {name: jax.lax.dynamic_slice_in_dim(array, start, rows) for name, array in given.items()}
        fresh = start + jnp.arange(rows) >= number * rows
        return statistics({**dict.fromkeys(by_row), **part, "mask": part["mask"] & fresh[:, None]})

    return merged(jax.lax.map(block, jnp.arange(-(-batch // rows))))

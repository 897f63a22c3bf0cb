"""`batch/`: what a batch of any kind shows, for loops whose rows are not completions (episodes, environments, ...)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from toolkit.metrics import statistic
from toolkit.metrics.statistic import Statistic


def batch_metrics(
    arrays: Mapping[str, Num[Array, " batch"] | Bool[Array, " batch"]],
    rows: Bool[Array, " batch"],
    thresholds: Mapping[str, float],
) -> dict[str, Statistic]:
    """Mean, standard deviation and extremes of each array, and the success rate of those that tell what succeeded.

    An array of bools is its own success; of any other an entry succeeds that reaches the threshold of its name.
    """
    metrics: dict[str, Statistic] = {}
    numbers = {name: array for name, array in arrays.items() if array.dtype != bool}
    if numbers:
        # One vectorised computation over all arrays: a part of the compilation of one for each of them.
        stacked = jnp.stack([array.astype(jnp.float32) for array in numbers.values()])
        spreads = jax.vmap(_spread, in_axes=(0, None))(stacked, rows)
        for row, name in enumerate(numbers):
            metrics |= {f"batch/{name}/{key}": statistic.row(of_all, row) for key, of_all in spreads.items()}
    for name, array in arrays.items():
        if array.dtype == bool:
            metrics[f"batch/{name}/success_rate"] = statistic.share(array, rows)
        elif name in thresholds:
            x = array.astype(jnp.float32)
            metrics[f"batch/{name}/success_rate"] = statistic.share(x >= thresholds[name], rows & jnp.isfinite(x))
    return metrics


def _spread(x: Num[Array, " batch"], rows: Bool[Array, " batch"]) -> dict[str, Statistic]:
    return {
        "mean": statistic.mean(x, rows),
        "std": statistic.std(x, rows),
        "min": statistic.minimum(x, rows),
        "max": statistic.maximum(x, rows),
    }

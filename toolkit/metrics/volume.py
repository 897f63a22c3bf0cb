"""How much a step holds: what throughput and cost are counted in."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from toolkit.metrics import reduction
from toolkit.metrics.groups import group_sum
from toolkit.metrics.statistic import Statistic, Total


def volume_metrics(
    rows: Bool[Array, " batch"], mask: Bool[Array, "batch time"] | None, group: Int[Array, " batch"] | None
) -> dict[str, Statistic]:
    """Completions, examples (prompts, where groups are known) and completion tokens."""
    metrics: dict[str, Statistic] = {"throughput/completions": Total(reduction.count(rows))}
    if group is not None:
        sizes = group_sum(jnp.ones(rows.shape, jnp.float32), group, rows)
        metrics["throughput/examples"] = Total(reduction.count(sizes > 0))
    if mask is not None:
        metrics["throughput/tokens"] = Total(reduction.count(mask))
    return metrics

"""`advantages/`: what the optimiser was told to do with each completion."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction, statistic
from toolkit.metrics.histogram import SIGNED_LOG_EDGES, histogram
from toolkit.metrics.statistic import Mean, Statistic


def advantage_metrics(
    advantages: Float[Array, " batch *time"],
    rows: Bool[Array, " batch"],
    mask: Bool[Array, "batch time"] | None,
) -> dict[str, Statistic]:
    """Every metric of the family, by key; over tokens where the advantages are given by token."""
    by_completion = rows if advantages.ndim == 1 else jnp.broadcast_to(rows[:, None], advantages.shape)
    kept = reduction.counted(advantages, by_completion if advantages.ndim == 1 or mask is None else mask)
    metrics: dict[str, Statistic] = {
        "advantages/mean": statistic.mean(advantages, kept),
        "advantages/std": statistic.std(advantages, kept),
        "advantages/abs_mean": statistic.mean(jnp.abs(advantages), kept),
        "advantages/zero_fraction": statistic.share(advantages == 0, kept),
        "advantages/histogram": histogram(advantages, kept, SIGNED_LOG_EDGES),
    }
    if mask is not None:
        metrics["advantages/positive_token_share"] = positive_token_share(advantages, mask)
    return metrics


def positive_token_share(advantages: Float[Array, " batch *time"], mask: Bool[Array, "batch time"]) -> Mean:
    """The share of tokens that are to become more likely."""
    if advantages.ndim == 2:
        return statistic.share(advantages > 0, reduction.counted(advantages, mask))
    tokens = reduction.lengths(mask)
    finite = jnp.isfinite(advantages)
    return Mean(jnp.sum(tokens, where=finite & (advantages > 0)), jnp.sum(tokens, where=finite))


def over_tokens(advantages: Float[Array, " batch *time"]) -> Float[Array, "batch time_or_1"]:
    """The advantages with a time axis, of length 1 where one advantage holds for a whole completion."""
    return advantages[:, None] if advantages.ndim == 1 else advantages

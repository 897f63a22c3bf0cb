"""`rewards/`: what each reward function gave, and which of them the optimiser can follow."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.metrics import groups, reduction, statistic
from toolkit.metrics.histogram import SIGNED_LOG_EDGES, histogram
from toolkit.metrics.statistic import Correlation, Mean, RootMean, Statistic


def reward_metrics(
    rewards: Mapping[str, Float[Array, " batch"]],
    weights: Float[Array, " functions"],
    mask: Bool[Array, " batch"],
    group: Int[Array, " batch"] | None,
) -> dict[str, Statistic]:
    """The metrics of the family that the given arrays allow, by key. A reward is NaN where its function gave none.

    The weights stand in the order of the rewards.
    """
    total = weighted_total(rewards, weights)
    # One vectorised computation over all functions: a third of the compilation of one for each of them.
    columns = jnp.stack(list(rewards.values())).astype(jnp.float32)
    every = jnp.concatenate([columns, total[None, :]])
    found = jax.vmap(distribution, in_axes=(0, None))(every, mask)
    if group is not None:
        found |= jax.vmap(spread_of_groups, in_axes=(0, None, None))(every, group, mask)
    metrics: dict[str, Statistic] = {}
    for row, name in enumerate([*rewards, "total"]):
        metrics |= {f"rewards/{name}/{key}": statistic.row(values, row) for key, values in found.items()}
    if group is not None:
        weighted = columns * weights[:, None]
        shares = jax.vmap(signal_share, in_axes=(0, None, None, None))(weighted, total, group, mask)
        metrics |= {f"rewards/{name}/signal_share": statistic.row(shares, row) for row, name in enumerate(rewards)}
    return metrics | correlations(rewards, group, mask)


def weighted_total(
    rewards: Mapping[str, Float[Array, " batch"]], weights: Float[Array, " functions"]
) -> Float[Array, " batch"]:
    """R = sum_k w_k r_k over the functions that gave a reward; NaN where none did."""
    columns = jnp.stack(list(rewards.values())).astype(jnp.float32)
    weighted = columns * weights[:, None]
    given = jnp.isfinite(columns)
    return jnp.where(given.any(axis=0), jnp.sum(jnp.where(given, weighted, 0), axis=0), jnp.nan)


def distribution(reward: Float[Array, " batch"], mask: Bool[Array, " batch"]) -> dict[str, Statistic]:
    """Mean, spread, quantiles and histogram; `coverage` is the share of completions that got a reward."""
    p10, median, p90 = statistic.quantiles(reward, mask, (0.1, 0.5, 0.9), SIGNED_LOG_EDGES)
    return {
        "mean": statistic.mean(reward, mask),
        "std": statistic.std(reward, mask),
        "min": statistic.minimum(reward, mask),
        "max": statistic.maximum(reward, mask),
        "median": median,
        "p10": p10,
        "p90": p90,
        "coverage": statistic.share(jnp.isfinite(reward), mask),
        "histogram": histogram(reward, mask, SIGNED_LOG_EDGES),
    }


def spread_of_groups(
    reward: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> dict[str, Statistic]:
    """The standard deviation in two parts: within groups, and between their means, each weighted by its completions.

    What group-normalised advantages are made of, and what GRPO subtracts away. Law of total variance: their squares
    sum to the variance over the batch.
    """
    valid = reduction.counted(reward, mask)
    middle = groups.mean_of_group(reward, group, mask)
    squares = statistic.mean_of_finite(jnp.square(reward - middle), valid)
    return {"within_std": RootMean(squares.total, squares.count), "between_std": statistic.std(middle, valid)}


def signal_share(
    weighted_reward: Float[Array, " batch"],
    total: Float[Array, " batch"],
    group: Int[Array, " batch"],
    mask: Bool[Array, " batch"],
) -> Mean:
    """Cov(w_k r_k, R) / Var(R), both within groups: the share of the signal that comes from one reward.

    The shares of all rewards sum to 1; a negative one works against the rest. A completion without this reward
    contributes 0, as it did to R. NaN when R varies within no group: then there is no signal to share.
    """
    valid = reduction.counted(total, mask)
    part = jnp.where(jnp.isfinite(weighted_reward), weighted_reward, 0.0)
    own = part - groups.mean_of_group(part, group, valid)
    whole = total - groups.mean_of_group(total, group, valid)
    best, worst = groups.group_maximum(total, group, valid), -groups.group_maximum(-total, group, valid)
    varies = valid & ~groups.all_equal(best, worst).all()
    return Mean(reduction.total(own * whole, varies), reduction.total(whole * whole, varies))


def correlations(
    rewards: Mapping[str, Float[Array, " batch"]], group: Int[Array, " batch"] | None, mask: Bool[Array, " batch"]
) -> dict[str, Statistic]:
    """Pearson's correlation of each two functions, over the batch and within groups, where the optimiser looks."""
    pairs = list(combinations(rewards, 2))
    if not pairs:
        return {}
    # As above, at once: of six functions there are fifteen pairs.
    x, y = (jnp.stack([rewards[pair[side]] for pair in pairs]).astype(jnp.float32) for side in (0, 1))
    found = {"correlation": jax.vmap(statistic.correlation, in_axes=(0, 0, None))(x, y, mask)}
    if group is not None:
        found["correlation_within"] = jax.vmap(correlation_within, in_axes=(0, 0, None, None))(x, y, group, mask)
    return {
        f"rewards/{kind}/{first}~{second}": statistic.row(of_pairs, number)
        for kind, of_pairs in found.items()
        for number, (first, second) in enumerate(pairs)
    }


def correlation_within(
    x: Float[Array, " batch"], y: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Correlation:
    """Pearson's correlation of the distances of two rewards from the means of their groups."""
    both = reduction.counted(x, mask) & jnp.isfinite(y)
    own_x, own_y = jax.vmap(_within, in_axes=(0, None, None))(jnp.stack([x, y]), group, both)
    return statistic.correlation(own_x, own_y, both)


def _within(
    reward: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Float[Array, " batch"]:
    """How far each reward is from its group's mean: 0, and not what rounding leaves, where a group's are all equal."""
    best, worst = groups.group_maximum(reward, group, mask), -groups.group_maximum(-reward, group, mask)
    equal = groups.of_own_group(groups.all_equal(best, worst), group, False)
    return jnp.where(equal, 0.0, reward - groups.mean_of_group(reward, group, mask))

"""`groups/`: a group is the completions of one prompt; one whose rewards are all equal teaches nothing.

Groups are given by an id a completion, in 0..batch-1, so that a group may have any size and lie in any rows. An id
outside of that range is no group's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from toolkit.metrics import reduction, statistic
from toolkit.metrics.statistic import Statistic


def group_metrics(
    total: Float[Array, " batch"],
    group: Int[Array, " batch"],
    mask: Bool[Array, " batch"],
    success: Float[Array, " batch"] | None,
    pass_at: tuple[int, ...],
) -> dict[str, Statistic]:
    """Every metric of the family, by key; pass@k only where it is known which completions succeed.

    `success` is 1, 0, or NaN where a completion was not judged: such a one is no attempt.
    """
    valid = reduction.counted(total, mask)
    size = group_sum(jnp.ones_like(total), group, valid)
    exists = size > 0
    best, worst = group_maximum(total, group, valid), -group_maximum(-total, group, valid)
    middle = group_sum(total, group, valid) / size
    metrics: dict[str, Statistic] = {
        **statistic.means({"groups/best": best, "groups/mean": middle, "groups/worst": worst}, exists),
        **zero_std_fractions(best, worst, middle, exists),
    }
    if success is not None and pass_at:
        judged = reduction.counted(success, mask)
        attempts = group_sum(jnp.ones_like(success), group, judged)
        successes = group_sum(success, group, judged)
        chances = {f"groups/pass_at_{k}": pass_at_k(attempts, successes, k) for k in pass_at}
        metrics |= statistic.means(chances, attempts > 0)
    return metrics


def zero_std_fractions(
    best: Float[Array, " batch"],
    worst: Float[Array, " batch"],
    middle: Float[Array, " batch"],
    exists: Bool[Array, " batch"],
) -> dict[str, Statistic]:
    """Share of groups whose rewards are all equal, and of those at the low and at the high end.

    Low and high are the outer thirds of the range of rewards that this batch shows, as rewards are not 0 or 1 in
    general; when all rewards are equal there is no low and no high. A batch that is merged with others keeps the range
    that it was judged by. (Yu et al. 2025, DAPO, arXiv 2503.14476.)
    """
    equal = all_equal(best, worst)
    low, high = reduction.minimum(worst, exists), reduction.maximum(best, exists)
    third, vary = (high - low) / 3, ~all_equal(high, low)
    return {
        "groups/zero_std_fraction": statistic.share(equal, exists),
        "groups/all_low_fraction": statistic.share(equal & vary & (middle < low + third), exists),
        "groups/all_high_fraction": statistic.share(equal & vary & (middle > high - third), exists),
    }


def all_equal(best: Float[Array, "*shape"], worst: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether rewards from worst to best are all equal, up to what rounding leaves of equal sums in float32."""
    return best - worst <= 1e-6 * jnp.maximum(jnp.abs(best), jnp.abs(worst))


def pass_at_k(n: Float[Array, " batch"], c: Float[Array, " batch"], k: int) -> Float[Array, " batch"]:
    """1 - C(n-c, k) / C(n, k): the unbiased chance that k of n completions hold a success, when c of n succeed.

    NaN where n < k. (Chen et al. 2021, Evaluating Large Language Models Trained on Code, eq. 1.)
    """
    failing = jnp.ones_like(n)
    for drawn in range(k):
        failing = failing * jnp.clip((n - c - drawn) / jnp.maximum(n - drawn, 1), 0.0, 1.0)
    return jnp.where(n >= k, 1.0 - failing, jnp.nan)


def mean_of_group(
    x: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Float[Array, " batch"]:
    """For each completion the mean over its own group; NaN where it has none."""
    valid = reduction.counted(x, mask)
    means = group_sum(x, group, valid) / group_sum(jnp.ones_like(x), group, valid)
    return of_own_group(means, group, jnp.nan)


def of_own_group(
    by_group: Shaped[Array, " batch"], group: Int[Array, " batch"], otherwise: float | bool
) -> Shaped[Array, " batch"]:
    """For each completion what stands at its group's id."""
    places = jnp.where(group < 0, len(group), group)  # a negative index would count from the end
    return by_group.at[places].get(mode="fill", fill_value=otherwise)


def group_sum(
    x: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Float[Array, " batch"]:
    """Sum of each group, at the group's id; ids nobody has are 0."""
    return jax.ops.segment_sum(jnp.where(mask, x, 0.0), group, num_segments=len(group))


def group_maximum(
    x: Float[Array, " batch"], group: Int[Array, " batch"], mask: Bool[Array, " batch"]
) -> Float[Array, " batch"]:
    """Largest entry of each group, at the group's id; ids nobody has are -inf."""
    return jax.ops.segment_max(jnp.where(mask, x, -jnp.inf), group, num_segments=len(group))

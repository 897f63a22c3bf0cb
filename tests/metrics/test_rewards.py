"""Rewards: each function's distribution, what optimisation can follow, and who gives the signal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.histogram import SIGNED_LOG_EDGES
from toolkit.metrics.rewards import reward_metrics, signal_share, spread_of_groups, weighted_total

BATCH = 12
GROUP = np.array([0, 3, 3, 0, 3, 7, 3, 0, 9, 0, 9, 9])
WEIGHTS = {"correct": 1.0, "format": 0.5, "length": -0.3}
PAIRS = ("correct~format", "correct~length", "format~length")
Rewards = dict[str, np.ndarray]


@jax.jit
def jitted(rewards: dict[str, Array], weights: Array, mask: Array, group: Array | None) -> dict[str, Array]:
    """The finished metrics."""
    return values(reward_metrics(rewards, weights, mask, group))


def measured(rewards: Rewards, mask: np.ndarray | None = None, group: np.ndarray = GROUP) -> dict[str, np.ndarray]:
    """The family under jit; a histogram as its counts."""
    kept = np.ones(BATCH, bool) if mask is None else mask
    vectors = {name: jnp.asarray(reward, jnp.float32) for name, reward in rewards.items()}
    found = jitted(vectors, jnp.array(list(WEIGHTS.values())), jnp.asarray(kept), jnp.asarray(group, jnp.int32))
    return {key: np.asarray(value) for key, value in found.items()}


def draw(seed: int) -> tuple[Rewards, np.ndarray]:
    """Three rewards, the third related to the first, each with some missing; and which rows are completions."""
    random = np.random.default_rng(seed)
    rewards = {name: random.normal(size=BATCH) for name in WEIGHTS}
    rewards["length"] += rewards["correct"]
    for reward in rewards.values():
        reward[random.random(BATCH) < 0.15] = np.nan
    return rewards, random.random(BATCH) < 0.9


def total_of(rewards: Rewards) -> np.ndarray:
    """The weighted total by a loop over completions."""
    rows = [[WEIGHTS[name] * reward[row] for name, reward in rewards.items()] for row in range(BATCH)]
    return np.array([np.nansum(row) if not np.isnan(row).all() else np.nan for row in rows])


def group_means(reward: np.ndarray) -> np.ndarray:
    """For each entry of a vector of `BATCH` the mean of its group, over what is not NaN."""
    means = np.full(BATCH, np.nan)
    for one in np.unique(GROUP):
        known = (one == GROUP) & ~np.isnan(reward)
        if known.any():
            means[one == GROUP] = reward[known].mean()
    return means


@pytest.mark.parametrize("seed", range(4))
def test_each_distribution_is_numpys(seed: int) -> None:
    """Mean, spread, quantiles, coverage and histogram of each function and of the weighted total."""
    rewards, mask = draw(seed)
    found = measured(rewards, mask)
    for name, reward in {**rewards, "total": total_of(rewards)}.items():
        kept = reward[mask & ~np.isnan(reward)]
        p10, median, p90 = np.quantile(kept, [0.1, 0.5, 0.9])
        expected = {
            "mean": kept.mean(), "std": kept.std(), "min": kept.min(), "max": kept.max(),
            "median": median, "p10": p10, "p90": p90, "coverage": len(kept) / mask.sum(),
        }  # fmt: skip
        for quantity, value in expected.items():
            np.testing.assert_allclose(found[f"rewards/{name}/{quantity}"], value, rtol=1e-5, err_msg=quantity)
        counts = np.histogram(kept.astype(np.float32), np.array(SIGNED_LOG_EDGES, np.float32))[0]
        np.testing.assert_array_equal(found[f"rewards/{name}/histogram"], counts)


@pytest.mark.parametrize("seed", range(4))
def test_within_and_between_are_numpys_and_add_up(seed: int) -> None:
    """Law of total variance: within^2 + between^2 = std^2, for groups of any size with rewards missing."""
    rewards, mask = draw(seed)
    found = measured(rewards, mask)
    for name, reward in {**rewards, "total": total_of(rewards)}.items():
        masked = np.where(mask, reward, np.nan)
        means = group_means(masked)
        within, between = (found[f"rewards/{name}/{part}_std"] for part in ("within", "between"))
        np.testing.assert_allclose(within, np.sqrt(np.nanmean((masked - means) ** 2)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(between, np.std(means[~np.isnan(masked)]), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(within**2 + between**2, found[f"rewards/{name}/std"] ** 2, rtol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_signal_shares_are_covariances_and_sum_to_one(seed: int) -> None:
    """Also where rewards are missing and a weight is negative."""
    rewards, mask = draw(seed)
    found = measured(rewards, mask)
    total = np.where(mask, total_of(rewards), np.nan)
    whole = total - group_means(total)
    shares = []
    for name, reward in rewards.items():
        part = np.where(np.isnan(total), np.nan, np.nan_to_num(WEIGHTS[name] * reward))
        own = part - group_means(part)
        shares.append(found[f"rewards/{name}/signal_share"])
        np.testing.assert_allclose(shares[-1], np.nanmean(own * whole) / np.nanmean(whole**2), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(sum(shares), 1.0, atol=1e-5)


def test_signal_shares_by_hand() -> None:
    """One reward that differs only between groups gives no signal, and one that opposes the rest a negative share."""
    rewards = {
        "correct": np.array([0.0, 1.0] * 6),
        "format": np.arange(BATCH) // 2 * 10.0,
        "length": np.array([0.0, 1.0] * 6),
    }
    found = measured(rewards, group=np.arange(BATCH) // 2)
    shares = {name: float(found[f"rewards/{name}/signal_share"]) for name in WEIGHTS}
    # R varies within groups by 0.7 = 1 - 0.3.
    assert shares == pytest.approx({"correct": 1 / 0.7, "format": 0.0, "length": -0.3 / 0.7}, abs=1e-5)


def test_rewards_that_cancel_in_the_total_are_seen_to() -> None:
    """Each function varies within groups and their total does not: there is no signal, and so no shares."""
    opposed = np.array([0.0, 1.0] * 6)
    rewards = {"correct": opposed, "format": 1 - 2 * opposed, "length": np.zeros(BATCH)}
    found = measured(rewards, group=np.arange(BATCH) // 2)
    assert found["rewards/correct/within_std"] == 0.5
    assert found["rewards/total/within_std"] == 0
    assert all(np.isnan(found[f"rewards/{name}/signal_share"]) for name in WEIGHTS)


@pytest.mark.parametrize("reward", [0.7, 1 / 3, 0.45])
def test_rounding_is_no_signal(reward: float) -> None:
    """Where all rewards are equal, what is left of them after taking off their mean is not shared out."""
    of_five_and_seven = np.where(np.arange(BATCH) < 5, 0, 1)
    found = measured({name: np.full(BATCH, reward) for name in WEIGHTS}, group=of_five_and_seven)
    assert all(np.isnan(found[f"rewards/{name}/signal_share"]) for name in WEIGHTS)
    assert all(np.isnan(found[f"rewards/correlation/{pair}"]) for pair in PAIRS)
    assert all(np.isnan(found[f"rewards/correlation_within/{pair}"]) for pair in PAIRS)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_numpys(seed: int) -> None:
    """For each pair of functions, over the completions that have both: as they are, and from their groups' means."""
    rewards, mask = draw(seed)
    found = measured(rewards, mask)
    for pair in PAIRS:
        first, second = (rewards[name] for name in pair.split("~"))
        both = mask & ~np.isnan(first) & ~np.isnan(second)
        expected = np.corrcoef(first[both], second[both])[0, 1]
        np.testing.assert_allclose(found[f"rewards/correlation/{pair}"], expected, rtol=1e-4, atol=1e-5)
        own = [reward - group_means(np.where(both, reward, np.nan)) for reward in (first, second)]
        expected = np.corrcoef(own[0][both], own[1][both])[0, 1]
        np.testing.assert_allclose(found[f"rewards/correlation_within/{pair}"], expected, rtol=1e-4, atol=1e-5)


def test_rewards_that_agree_over_the_batch_may_oppose_each_other_within_groups() -> None:
    """Better prompts raise both by tens, and of the two completions of each one takes what the other gets."""
    prompt, second = np.arange(BATCH) // 2, np.arange(BATCH) % 2
    rewards = {"correct": 10.0 * prompt + second, "format": 10.0 * prompt + 1 - second, "length": 1.0 * second}
    found = measured(rewards, group=prompt)
    # The prompts' means vary by 100 * 35 / 12, the completions around them by 1 / 4.
    expected = (3500 / 12 - 1 / 4) / (3500 / 12 + 1 / 4)
    np.testing.assert_allclose(found["rewards/correlation/correct~format"], expected, rtol=1e-5)
    within = {pair: float(found[f"rewards/correlation_within/{pair}"]) for pair in PAIRS}
    assert within == pytest.approx({"correct~format": -1, "correct~length": 1, "format~length": -1}, rel=1e-5)


def test_groups_of_one_have_nothing_within() -> None:
    """Each completion is its own group's mean: all of the variance lies between, and there is no signal."""
    rewards, mask = draw(3)
    found = measured(rewards, mask, np.arange(BATCH))
    for name in (*WEIGHTS, "total"):
        assert found[f"rewards/{name}/within_std"] == 0
        np.testing.assert_allclose(found[f"rewards/{name}/between_std"], found[f"rewards/{name}/std"], rtol=1e-6)
    assert all(np.isnan(found[f"rewards/{name}/signal_share"]) for name in WEIGHTS)
    assert all(np.isnan(found[f"rewards/correlation_within/{pair}"]) for pair in PAIRS)


def test_a_single_function_has_nothing_to_correlate_with() -> None:
    """There is no pair, and all else is there."""
    found = measured({"correct": np.linspace(0, 1, BATCH)})
    assert found["rewards/correct/mean"] == pytest.approx(0.5)
    assert not any("correlation" in key for key in found)


def test_a_single_completion_is_its_own_distribution() -> None:
    """It has a mean, extremes and quantiles, no spread, and no correlation."""
    rewards = {name: np.full(BATCH, 0.7) for name in WEIGHTS}
    found = measured(rewards, np.arange(BATCH) == 4)
    for key in ("mean", "min", "max", "median", "p10", "p90"):
        np.testing.assert_allclose(found[f"rewards/correct/{key}"], 0.7, rtol=1e-6)
    spreads = [found[f"rewards/correct/{key}"] for key in ("std", "within_std", "between_std")]
    np.testing.assert_allclose(spreads, 0, atol=1e-6)
    assert found["rewards/correct/histogram"].sum() == found["rewards/correct/coverage"] == 1
    correlations = [value for key, value in found.items() if key.startswith("rewards/correlation")]
    assert len(correlations) == 2 * len(PAIRS)
    assert np.isnan(correlations).all()


def test_a_function_that_never_gave_a_reward_has_a_coverage_of_zero_and_no_other_value() -> None:
    """It adds nothing to the total, and takes nothing from the others."""
    rewards, _ = draw(0)
    without = measured({**rewards, "format": np.zeros(BATCH)})
    found = measured({**rewards, "format": np.full(BATCH, np.nan)})
    own = {key: value for key, value in found.items() if key.startswith("rewards/format/")}
    assert own.pop("rewards/format/coverage") == 0
    assert own.pop("rewards/format/histogram").sum() == 0
    assert own.pop("rewards/format/signal_share") == 0
    assert all(np.isnan(value) for value in own.values()), own
    for key in ("rewards/correct/mean", "rewards/correct/signal_share"):
        np.testing.assert_allclose(found[key], without[key], rtol=1e-6)


def test_a_batch_without_any_reward_has_no_values() -> None:
    """All functions gave None: an absence and no error."""
    found = measured({name: np.full(BATCH, np.nan) for name in WEIGHTS})
    values = {key: value for key, value in found.items() if not key.endswith(("coverage", "histogram"))}
    assert all(np.isnan(value) for value in values.values()), values


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold any reward and group id."""
    rewards, mask = draw(5)
    dirty = {name: np.where(mask, reward, garbage) for name, reward in rewards.items()}
    clean = measured(rewards, mask)
    for key, value in measured(dirty, mask, np.where(mask, GROUP, BATCH)).items():
        np.testing.assert_array_equal(value, clean[key], err_msg=key)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_completions_and_of_groups_does_not_matter(seed: int) -> None:
    """Rows may be shuffled, as long as each stays with its group, and groups may swap their ids."""
    rewards, mask = draw(seed)
    random = np.random.default_rng(seed)
    order, ids = random.permutation(BATCH), random.permutation(BATCH)
    found = measured({name: reward[order] for name, reward in rewards.items()}, mask[order], ids[GROUP[order]])
    for key, value in measured(rewards, mask).items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-6, err_msg=key)


def test_an_infinite_reward_is_left_out() -> None:
    """It counts against the coverage, and poisons neither its own metrics nor the total."""
    rewards, _ = draw(1)
    rewards["format"][:] = 1.0
    rewards["format"][0] = np.inf
    found = measured(rewards)
    assert found["rewards/format/mean"] == 1
    np.testing.assert_allclose(found["rewards/format/coverage"], 11 / 12, rtol=1e-6)
    assert np.isfinite(found["rewards/total/mean"])


def test_eager_and_jit_agree() -> None:
    """The kernels need no jit around them."""
    rewards, mask = draw(2)
    found, total = measured(rewards, mask), jnp.asarray(total_of(rewards), jnp.float32)
    of_groups = jnp.asarray(GROUP, jnp.int32), jnp.asarray(mask)
    weighted = jnp.asarray(WEIGHTS["length"] * rewards["length"], jnp.float32)
    for key, value in values(spread_of_groups(total, *of_groups)).items():
        np.testing.assert_allclose(value, found[f"rewards/total/{key}"], rtol=1e-5)
    share = signal_share(weighted, total, *of_groups).value
    np.testing.assert_allclose(share, found["rewards/length/signal_share"], rtol=1e-4, atol=1e-6)


def test_bfloat16_is_computed_in_float32() -> None:
    """Every value comes out as float32, and nothing on the way mixes the two."""
    rewards, weights = {"a": jnp.ones(BATCH, jnp.bfloat16)}, jnp.ones(1)
    found = jax.eval_shape(jitted, rewards, weights, jnp.ones(BATCH, bool), jnp.zeros(BATCH, jnp.int32))
    assert {str(value.dtype) for value in found.values()} == {"float32"}
    thirds = {"a": jnp.full(BATCH, 1 / 3, jnp.bfloat16)}
    assert weighted_total(thirds, jnp.array([1 / 3]))[0] == thirds["a"][0].astype(jnp.float32) / 3


def test_without_groups_only_what_needs_them_is_missing() -> None:
    """The distributions and correlations stay."""
    rewards, rows = {name: jnp.zeros(BATCH) for name in WEIGHTS}, jnp.ones(BATCH, bool)
    grouped = set(jax.eval_shape(jitted, rewards, jnp.ones(3), rows, jnp.zeros(BATCH, jnp.int32)))
    ungrouped = set(jax.eval_shape(jitted, rewards, jnp.ones(3), rows, None))
    within = {key for key in grouped - ungrouped if key.startswith("rewards/correlation_within/")}
    assert within == {f"rewards/correlation_within/{pair}" for pair in PAIRS}
    others = {key.rpartition("/")[2] for key in grouped - ungrouped - within}
    assert others == {"within_std", "between_std", "signal_share"}
    assert ungrouped < grouped


def test_the_weighted_total_by_hand() -> None:
    """A function that gave nothing adds nothing; where none gave anything there is no total."""
    rewards = {"a": jnp.array([1.0, jnp.nan, jnp.nan, 2.0]), "b": jnp.array([10.0, 10.0, jnp.nan, jnp.inf])}
    total = weighted_total(rewards, jnp.array([2.0, -0.5]))
    np.testing.assert_array_equal(total, [-3.0, -5.0, np.nan, 4.0])

"""Groups: what is equal in all of a group, pass@k against counting every draw, and groups of any size in any rows."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.groups import group_metrics, mean_of_group, pass_at_k
from toolkit.metrics.statistic import merged

BATCH = 12
PASS_AT = (1, 2, 4)
GROUP = np.array([0, 3, 3, 0, 3, 7, 3, 0, 9, 0, 9, 9])  # sizes 4, 4, 1 and 3, in any rows


@jax.jit
def jitted(total: Array, group: Array, mask: Array, success: Array) -> dict[str, Array]:
    """The finished metrics."""
    return values(group_metrics(total, group, mask, success, PASS_AT))


def measured(
    total: np.ndarray, group: np.ndarray = GROUP, mask: np.ndarray | None = None, success: np.ndarray | None = None
) -> dict[str, float]:
    """The family under jit, from NumPy arrays."""
    kept = np.ones(BATCH, bool) if mask is None else mask
    won = np.zeros(BATCH) if success is None else success
    found = jitted(*device_arrays(total, group, kept, won))
    return {key: float(value) for key, value in found.items()}


def device_arrays(
    total: np.ndarray, group: np.ndarray, mask: np.ndarray, success: np.ndarray
) -> tuple[Array, Array, Array, Array]:
    """The arguments of the family as the types that it takes."""
    floats = [jnp.asarray(x, jnp.float32) for x in (total, success)]
    return floats[0], jnp.asarray(group, jnp.int32), jnp.asarray(mask), floats[1]


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards of few levels with some missing, which rows are completions, and successes, some not judged."""
    random = np.random.default_rng(seed)
    total = random.choice([0.0, 0.5, 2.0, np.nan], BATCH, p=[0.4, 0.3, 0.2, 0.1])
    return total, random.random(BATCH) < 0.9, random.choice([0.0, 1.0, np.nan], BATCH, p=[0.5, 0.4, 0.1])


def reference(total: np.ndarray, mask: np.ndarray, success: np.ndarray) -> dict[str, float]:
    """The family by loops over groups and, for pass@k, over every draw of k from each group."""
    groups = [total[(one == GROUP) & mask & ~np.isnan(total)] for one in np.unique(GROUP)]
    groups = [rewards for rewards in groups if len(rewards)]
    everything = np.concatenate(groups)
    third = np.ptp(everything) / 3
    flat = [rewards[0] for rewards in groups if len(set(rewards)) == 1]
    low = [reward for reward in flat if third > 0 and reward < everything.min() + third]
    high = [reward for reward in flat if third > 0 and reward > everything.max() - third]
    expected = {
        "groups/best": np.mean([rewards.max() for rewards in groups]),
        "groups/mean": np.mean([rewards.mean() for rewards in groups]),
        "groups/worst": np.mean([rewards.min() for rewards in groups]),
        "groups/zero_std_fraction": len(flat) / len(groups),
        "groups/all_low_fraction": len(low) / len(groups),
        "groups/all_high_fraction": len(high) / len(groups),
    }
    for k in PASS_AT:
        judged = [success[(one == GROUP) & mask & ~np.isnan(success)] for one in np.unique(GROUP)]
        rates = [np.mean([max(drawn) for drawn in combinations(won, k)]) for won in judged if len(won) >= k]
        expected[f"groups/pass_at_{k}"] = float(np.mean(rates)) if rates else np.nan
    return expected


@pytest.mark.parametrize("seed", range(8))
def test_the_family_is_what_loops_over_groups_give(seed: int) -> None:
    """Groups of different sizes in scattered rows, with rewards and judgements missing."""
    total, mask, success = draw(seed)
    assert measured(total, mask=mask, success=success) == pytest.approx(
        reference(total, mask, success), rel=1e-5, nan_ok=True
    )


def test_eager_and_jit_agree() -> None:
    """The kernel needs no jit around it."""
    total, mask, success = draw(1)
    eager = values(group_metrics(*device_arrays(total, GROUP, mask, success), PASS_AT))
    expected = measured(total, mask=mask, success=success)
    assert {key: float(value) for key, value in eager.items()} == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_success(k: int) -> None:
    """Every draw of k from n completions, c of which succeed, is counted; fewer than k have no value."""
    cases = [(n, c) for n in range(1, 9) for c in range(n + 1)]
    draws = [combinations([1] * c + [0] * (n - c), k) for n, c in cases]
    expected = [
        float(np.mean([max(drawn) for drawn in some])) if n >= k else np.nan
        for (n, _), some in zip(cases, draws, strict=True)
    ]
    n, c = (jnp.array(column, jnp.float32) for column in zip(*cases, strict=True))
    np.testing.assert_allclose(pass_at_k(n, c, k), expected, atol=1e-6)


def test_pass_at_all_with_one_success_is_certain() -> None:
    """With n = 8, c = 1, k = 8 exactly 1.0, where a bootstrap gives 0.651."""
    assert float(pass_at_k(jnp.array([8.0]), jnp.array([1.0]), 8)[0]) == 1.0


def test_groups_of_one_are_their_own_best_and_worst() -> None:
    """A group of one has no spread, so it teaches nothing."""
    total = np.arange(BATCH, dtype=float)
    found = measured(total, np.arange(BATCH), success=(total > 8).astype(float))
    assert found["groups/best"] == found["groups/mean"] == found["groups/worst"] == 5.5
    assert found["groups/zero_std_fraction"] == 1
    assert found["groups/pass_at_1"] == 0.25
    assert np.isnan(found["groups/pass_at_2"])


def test_without_success_or_any_k_there_is_no_pass_at_k() -> None:
    """It is not known which completions succeed, and the rewards alone do not say; or nobody asked."""
    given = device_arrays(np.zeros(BATCH), GROUP, np.ones(BATCH, bool), np.zeros(BATCH))

    def without_success() -> dict[str, Array]:
        return values(group_metrics(*given[:3], None, PASS_AT))

    def without_any_k() -> dict[str, Array]:
        return values(group_metrics(*given, ()))

    for found in (without_success, without_any_k):
        keys = jax.eval_shape(found).keys()
        assert "groups/best" in keys
        assert not any("pass_at" in key for key in keys)


def test_a_single_completion_is_a_group_of_one() -> None:
    """The rest is padding; what it got is the best, the mean and the worst."""
    found = measured(np.full(BATCH, 3.0), mask=np.arange(BATCH) == 5, success=np.ones(BATCH))
    assert np.isnan([found.pop("groups/pass_at_2"), found.pop("groups/pass_at_4")]).all()
    assert found == {
        "groups/best": 3, "groups/mean": 3, "groups/worst": 3, "groups/zero_std_fraction": 1,
        "groups/all_low_fraction": 0, "groups/all_high_fraction": 0, "groups/pass_at_1": 1,
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["rewards", "rows"])
def test_without_rewards_or_rows_nothing_has_a_value(missing: str) -> None:
    """All rewards None, or no completion at all, is an absence and no error."""
    total = np.full(BATCH, np.nan) if missing == "rewards" else np.ones(BATCH)
    mask = np.full(BATCH, missing == "rewards")
    found = measured(total, mask=mask, success=np.full(BATCH, np.nan))
    assert all(np.isnan(value) for value in found.values()), found


def test_low_and_high_are_thirds_of_the_range_that_was_seen() -> None:
    """Rewards need not be 0 or 1: of groups at -6, -1, 3 and mixed, one is low, one is neither and one is high."""
    total = np.array([-6.0, -6.0, -6.0, -1.0, -1.0, -1.0, 3.0, 3.0, 3.0, -6.0, -1.0, 3.0])
    found = measured(total, np.arange(BATCH) // 3)
    assert found["groups/zero_std_fraction"] == 0.75
    assert found["groups/all_low_fraction"] == 0.25
    assert found["groups/all_high_fraction"] == 0.25


def test_a_batch_that_is_merged_keeps_the_range_it_was_judged_by() -> None:
    """Groups at 0 and 4, then at 10 and 20: one is low and one high in each batch, though 4 is low among all."""
    rows, group = np.arange(BATCH), np.arange(BATCH) // 3
    total = np.repeat([0.0, 4.0, 10.0, 20.0], 3)
    together = measured(total, group)
    assert (together["groups/all_low_fraction"], together["groups/all_high_fraction"]) == (0.5, 0.25)
    halves = [device_arrays(total, group, mask, total)[:3] for mask in (rows < 6, rows >= 6)]
    parts = [group_metrics(*half, None, PASS_AT) for half in halves]
    whole = values(merged(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)))
    found = {key: float(value) for key, value in whole.items()}
    assert found["groups/zero_std_fraction"] == 1
    assert (found["groups/all_low_fraction"], found["groups/all_high_fraction"]) == (0.5, 0.5)
    assert found["groups/mean"] == together["groups/mean"] == 8.5


def test_when_all_rewards_are_equal_there_is_no_low_and_no_high() -> None:
    """All groups are equal inside, and no range tells where they lie."""
    found = measured(np.full(BATCH, 0.7))
    assert found["groups/zero_std_fraction"] == 1
    assert found["groups/all_low_fraction"] == found["groups/all_high_fraction"] == 0


def test_equal_sums_are_equal_however_they_were_rounded() -> None:
    """0.1 + 0.2 + 0.4 is not 0.1 + 0.4 + 0.2 in float32."""
    parts = np.array([[0.1, 0.1], [0.2, 0.4], [0.4, 0.2]], np.float32)
    sums = parts[0] + parts[1] + parts[2]
    assert sums[0] != sums[1]
    assert measured(np.resize(sums, BATCH))["groups/zero_std_fraction"] == 1
    apart = measured(np.resize([0.7, 0.7 * (1 + 5e-7)], BATCH), np.arange(BATCH))
    assert apart["groups/all_low_fraction"] == apart["groups/all_high_fraction"] == 0
    assert measured(np.resize([1.0, 1.0001], BATCH), np.arange(BATCH) // 4)["groups/zero_std_fraction"] == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold any reward, success and group id."""
    total, mask, success = draw(2)
    dirty = np.where(mask, total, garbage), np.where(mask, GROUP, BATCH)
    found = measured(*dirty, mask=mask, success=np.where(mask, success, garbage))
    assert found == pytest.approx(measured(total, mask=mask, success=success), nan_ok=True, rel=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_completions_and_of_groups_does_not_matter(seed: int) -> None:
    """Rows may be shuffled, as long as each stays with its group, and groups may swap their ids."""
    total, mask, success = draw(seed)
    random = np.random.default_rng(seed)
    order, ids = random.permutation(BATCH), random.permutation(BATCH)
    shuffled = measured(total[order], ids[GROUP[order]], mask[order], success[order])
    assert shuffled == pytest.approx(measured(total, mask=mask, success=success), rel=1e-6, nan_ok=True)


def test_an_id_outside_of_the_batch_is_no_groups() -> None:
    """Such completions are left out, instead of being counted to another group."""
    total = np.arange(BATCH, dtype=float)
    group = np.where(np.arange(BATCH) < 4, BATCH - 1, [-1, 99, BATCH] * 4)
    means = mean_of_group(*device_arrays(total, group, np.ones(BATCH, bool), total)[:3])
    np.testing.assert_array_equal(means, [1.5, 1.5, 1.5, 1.5] + [np.nan] * 8)
    assert measured(total, group)["groups/mean"] == 1.5


def test_infinite_rewards_are_left_out() -> None:
    """One infinity does not poison its group."""
    total = np.array([1.0, 2.0, np.inf, 4.0, -np.inf, 6.0] * 2)
    found = measured(total, np.arange(BATCH) // 6)
    assert (found["groups/best"], found["groups/mean"], found["groups/worst"]) == (6, 3.25, 1)

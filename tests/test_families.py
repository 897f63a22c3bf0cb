"""The families: which array goes where, which rows are looked at, and what becomes of a batch that says nothing."""

from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_measure import BATCH, GROUP_SIZE, Fields, draw, keys, rows, whole, without
from toolkit.compilation import compilations
from toolkit.families import NEEDS
from toolkit.measure import measure, statistics
from toolkit.record import Histogram
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics


def by_hand(fields: Fields) -> dict[str, float]:
    """By NumPy, for each array at least one number that would be another if any other array stood in its place."""
    mask, size = fields["mask"], GROUP_SIZE
    correct, brief = fields["rewards"]["correct"], fields["rewards"]["brief"]
    total = np.nan_to_num(correct) + 0.5 * brief
    tokens = {name: value[mask] for name, value in fields.items() if np.shape(value) == mask.shape and name != "mask"}
    logp, old_logp, entropy = tokens["logp"], tokens["old_logp"], tokens["entropy"]
    advantage = np.broadcast_to(fields["advantages"][:, None], mask.shape)[mask]
    judgement = np.broadcast_to(correct[:, None], mask.shape)[mask]
    ratio, length = np.exp(logp - old_logp), mask.sum(axis=1)
    return {
        "rewards/correct/mean": np.nanmean(correct),
        "rewards/brief/mean": brief.mean(),
        "rewards/total/mean": total.mean(),
        "rewards/total/between_std": total.reshape(-1, size).mean(axis=1).std(),
        "groups/best": total.reshape(-1, size).max(axis=1).mean(),
        "groups/pass_at_1": np.nanmean(correct.reshape(-1, size), axis=1).mean(),
        "groups/all_low_fraction": size / BATCH,
        "advantages/mean": fields["advantages"].mean(),
        "advantages/positive_token_share": (advantage > 0).mean(),
        "policy/entropy": entropy.mean(),
        "policy/entropy_correct": entropy[judgement == 1].mean(),
        "policy/entropy_incorrect": entropy[judgement == 0].mean(),
        "policy/kl_ref_exact": tokens["ref_kl"].mean(),
        "policy/kl_ref_k1": (logp - tokens["ref_logp"]).mean(),
        "policy/kl_init_k1": (logp - tokens["init_logp"]).mean(),
        "policy/kl_old_k1": (logp - old_logp).mean(),
        "policy/logp_advantage_covariance": np.cov(logp, advantage, bias=True)[0, 1],
        "policy/clip_low": ((ratio < 0.8) & (advantage < 0)).mean(),
        "policy/clip_high": ((ratio > 1.2) & (advantage > 0)).mean(),
        "sampler/abs_logp_gap_mean": np.abs(old_logp - tokens["sampler_logp"]).mean(),
        "completions/length_mean": length.mean(),
        "completions/length_correct": length[correct == 1].mean(),
        "completions/length_reward_correlation": np.corrcoef(length, total)[0, 1],
        "completions/truncated_fraction": fields["truncated"].mean(),
        "throughput/tokens": mask.sum(),
        "throughput/completions": BATCH,
        "throughput/examples": BATCH // size,
    }


def test_each_family_gets_its_arrays_and_padding_changes_nothing() -> None:
    """Arrays of the host, which are padded in both directions, against NumPy."""
    found, expected = whole(), by_hand(draw())
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert {key.partition("/")[0] for key in expected} == set(NEEDS)
    assert len(found) > 90


def test_the_sampler_is_compared_with_the_policy_that_sampled() -> None:
    """The old logprobs where there are any, else those of the loss; here in blocks of which the last is shared."""
    random = np.random.default_rng(0)
    mask = random.random((300, 64)) < 0.5  # more than two blocks
    tokens = {name: random.uniform(-3, -0.1, mask.shape).astype(np.float32) for name in ("logp", "old_logp")}
    sampler_logp = random.uniform(-3, -0.1, mask.shape).astype(np.float32)
    for given, own in (("logp", "logp"), ("logp old_logp", "old_logp")):
        fields: Fields = {name: jnp.asarray(tokens[name]) for name in given.split()}
        rollout = Rollout(mask=jnp.asarray(mask), sampler_logp=jnp.asarray(sampler_logp), **fields)
        found = measure(rollout, families=frozenset({"sampler"})).values()
        gap = np.abs(tokens[own] - sampler_logp)[mask]
        assert found["sampler/abs_logp_gap_mean"] == pytest.approx(gap.mean(), rel=1e-5)
        assert found["sampler/abs_logp_gap_max"] == gap.max()
        pearson = np.corrcoef(np.exp(tokens[own])[mask], np.exp(sampler_logp)[mask])[0, 1]
        assert found["sampler/pearson"] == pytest.approx(pearson, rel=1e-3)


def test_a_users_own_dtypes_are_taken() -> None:
    """Masks of numbers, rewards of integers and statistics in bfloat16 mean what they mean elsewhere."""
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]])
    rollout = Rollout(
        rewards={"correct": jnp.array([0, 1, 1, 1])},
        group_ids=jnp.array([0, 0, 2, 2], jnp.uint8),
        mask=jnp.array(mask, jnp.float32),
        truncated=jnp.array([0, 1, 0, 0]),
        logp=jnp.full((4, 4), -0.5, jnp.bfloat16),
    )
    found = measure(rollout, families=frozenset({"completions", "groups", "policy"})).values()
    expected = {
        "completions/length_mean": 2.5, "completions/truncated_fraction": 0.25, "completions/terminated_length_max": 3,
        "completions/length_correct": 8 / 3, "completions/length_incorrect": 2, "groups/mean": 0.75,
        "groups/pass_at_1": 0.75, "groups/zero_std_fraction": 0.5, "policy/entropy_mc": 0.5,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_without_a_success_reward_nothing_is_called_correct() -> None:
    """Neither pass@k nor length and entropy by correctness, whatever the rewards are named."""
    settings = Metrics(success={"reward": None})  # type: ignore[arg-type]  # pydantic makes the section of it
    traced = jax.eval_shape(lambda: statistics(Rollout(**draw()), settings).finished())
    assert keys() - {column.key for column in traced.columns} == {
        "groups/pass_at_1", "groups/pass_at_4", "completions/length_correct", "completions/length_incorrect",
        "policy/entropy_correct", "policy/entropy_incorrect",
    }  # fmt: skip


def test_the_settings_of_a_family_are_followed() -> None:
    """The threshold of success, the k of pass@k, and the range of the clip."""
    settings = Metrics.model_validate(
        {
            "success": {"reward": "a", "threshold": 2},
            "groups": {"pass_at": [2]},
            "policy": {"clip_low": 0.6, "clip_high": 0.1},
        }
    )
    rollout = Rollout(
        rewards={"a": [1, 3, 3, 1]}, group_size=2, advantages=np.array([1, -1, 1, -1], np.float32),
        mask=np.ones((4, 1), bool), old_logp=np.zeros((4, 1)), logp=np.log([[1.15], [0.5], [1.05], [0.3]]),
    )  # fmt: skip
    found = measure(rollout, settings, frozenset({"groups", "policy"})).values()
    assert found["groups/pass_at_2"] == 1  # one of two succeeds in each group
    assert "groups/pass_at_1" not in found
    assert (found["policy/clip_low"], found["policy/clip_high"]) == (0.25, 0.25)


def sampled(ratio: float) -> Metrics:
    """Settings by which two families look at a share of the completions."""
    return Metrics.model_validate({"policy": {"sampling_ratio": ratio}, "sampler": {"sampling_ratio": ratio}})


def numbered(batch: int, of: Any) -> Rollout:
    """Completions of one token, of which the logprob and its gap to the sampler are -2 to the number of the row."""
    number = -(2.0 ** np.arange(batch, dtype=np.float32))[:, None]
    mask = np.ones((batch, 1), bool)
    return Rollout(mask=of(mask), logp=of(number), sampler_logp=of(np.zeros_like(number)))


def rows_taken(rollout: Rollout, ratio: float, step: int, batch: int) -> set[int]:
    """Which rows were looked at: their powers of two add up to the sum."""
    mean = measure(rollout, sampled(ratio), frozenset({"policy"}), step).values()["policy/entropy_mc"]
    assert isinstance(mean, float)
    total = round(mean * ceil(ratio * batch))
    return {number for number in range(batch) if total >> number & 1}


@pytest.mark.parametrize(("batch", "of"), [(10, np.asarray), (10, jnp.asarray), (16, np.asarray)])
def test_a_share_of_the_completions_is_drawn_by_the_step(batch: int, of: Any) -> None:
    """A quarter of them, rounded up, also where host arrays are padded; and no step is compiled anew."""
    rollout = numbered(batch, of)
    drawn = [rows_taken(rollout, 0.25, 0, batch)]
    compiled = compilations()
    drawn += [rows_taken(rollout, 0.25, step, batch) for step in range(1, 40)]
    assert {len(taken) for taken in drawn} == {ceil(batch / 4)}
    assert rows_taken(rollout, 0.25, 7, batch) == drawn[7]
    assert len({frozenset(taken) for taken in drawn}) > 20
    assert set.union(*drawn) == set(range(batch))
    assert compilations() == compiled
    assert rows_taken(rollout, 1.0, 3, batch) == set(range(batch))


def test_the_step_that_draws_may_be_traced() -> None:
    """Inside of a jitted step the same rows are taken as outside, and both families take the same."""
    rollout, families = numbered(10, jnp.asarray), frozenset({"policy", "sampler"})
    step = jax.jit(lambda number: statistics(rollout, sampled(0.25), families, number).finished())
    for number in (0, 7):
        found = step(jnp.int32(number)).values()
        outside = measure(rollout, sampled(0.25), frozenset({"policy"}), number).values()
        assert found["policy/entropy_mc"] == found["sampler/abs_logp_gap_mean"] == outside["policy/entropy_mc"]


def test_a_share_of_the_completions_is_a_share_of_the_work() -> None:
    """Besides taking the rows, nothing is computed over all tokens."""

    def over_all_tokens(ratio: float) -> int:
        fields: Fields = {name: jnp.asarray(value) for name, value in draw().items() if np.ndim(value) == 2}
        shape = fields["mask"].shape
        traced = jax.make_jaxpr(lambda: statistics(Rollout(**fields), sampled(ratio), frozenset({"policy"})))()
        return sum(variable.aval.shape == shape for equation in traced.eqns for variable in equation.outvars)

    assert over_all_tokens(0.25) == 0
    assert over_all_tokens(1.0) > 50


def everywhere(value: float) -> Fields:
    """This number in each array of numbers."""
    fields = draw()
    filled = {
        name: jax.tree.map(lambda array: np.full_like(array, value) if array.dtype == np.float32 else array, field)
        for name, field in fields.items()
        if name != "weights"
    }
    return {**filled, "weights": fields["weights"]}


def measured(fields: Fields) -> dict[str, Any]:
    """The numbers, and of histograms how many entries they hold."""
    found = measure(Rollout(**fields)).values()
    return {key: value.counts.sum() if isinstance(value, Histogram) else value for key, value in found.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_give_counts_only(value: float) -> None:
    """What is not finite is counted; means and spreads have no value, histograms no entry, and lengths stay."""
    found = measured(everywhere(value))
    numeric = [key for key in found if key.startswith(("rewards/", "advantages/", "policy/", "sampler/"))]
    assert {found[key] for key in numeric if key.endswith("/histogram")} == {0}
    assert {key: found[key] for key in numeric if "histogram" not in key} == {
        **{f"rewards/{name}/coverage": 0 for name in ("brief", "correct", "total")},
        "policy/nonfinite_fraction": 1,
    }
    # An infinite reward is above the threshold of a success, or below it.
    assert {key.partition("_at_")[0] for key in found if key.startswith("groups/")} <= {"groups/pass"}
    lengths = ("completions/length_mean", "completions/length_p95", "throughput/tokens")
    assert [found[key] for key in lengths] == [measured(draw())[key] for key in lengths]


def test_without_a_token_there_is_no_statistic_of_tokens() -> None:
    """Of completions that are empty the length is 0, and all else about tokens has no value."""
    found = measured({**draw(), "mask": np.zeros_like(draw()["mask"])})
    assert {key for key in found if key.startswith(("policy/", "sampler/"))} == {"policy/entropy_histogram"}
    assert found["policy/entropy_histogram"] == found["throughput/tokens"] == found["completions/length_max"] == 0
    assert found["completions/length_histogram"] == found["throughput/completions"] == BATCH
    assert "completions/length_reward_correlation" not in found
    assert "advantages/positive_token_share" not in found
    assert found["rewards/brief/mean"] == measured(draw())["rewards/brief/mean"]


def test_a_batch_of_one_varies_in_nothing() -> None:
    """Its means are its numbers, its deviations 0, and there is no correlation nor a share of any signal."""
    one = rows(draw(), slice(1))
    found = measured(one)
    reward = one["rewards"]["correct"][0] + 0.5 * one["rewards"]["brief"][0]
    of_total = ("rewards/total/mean", "rewards/total/p10", "rewards/total/max", "groups/best", "groups/worst")
    assert [found[key] for key in of_total] == pytest.approx([reward] * len(of_total))
    assert [found[f"rewards/total/{key}"] for key in ("std", "within_std", "between_std")] == [0, 0, 0]
    assert (found["groups/zero_std_fraction"], found["groups/all_low_fraction"]) == (1, 0)
    assert [key for key in found if "correlation" in key or "signal_share" in key] == []
    assert (found["completions/length_p50"], found["throughput/examples"]) == (one["mask"].sum(), 1)


def test_a_number_that_never_changes_correlates_with_nothing() -> None:
    """Rounding of a mean in float32 is no variation: each mean is the number, and deviations are rounding."""
    found = measured(everywhere(0.1))
    assert [key for key in found if "correlation" in key or "signal_share" in key or "pearson" in key] == []
    assert [found[key] for key in ("rewards/correct/mean", "policy/entropy")] == pytest.approx([0.1, 0.1], rel=1e-5)
    assert [found[key] for key in ("advantages/std", "policy/kl_ref_k3")] == pytest.approx([0, 0], abs=1e-6)
    assert found["policy/ess"] == found["policy/ratio_mean"] == 1


def test_a_spread_too_wide_for_float32_is_not_called_small() -> None:
    """The squares of such distances are infinite: the deviation is, or has no value, but is not 0."""
    fields = draw()
    fields["rewards"]["brief"] = np.where(np.arange(BATCH) % 2, 1e30, -1e30).astype(np.float32)
    assert measured(fields).get("rewards/brief/std", np.inf) > 1e29


def test_without_groups_only_what_needs_them_is_gone() -> None:
    """Neither a size nor ids: the rest of the numbers is the same."""
    found = measure(without("group_ids"), families=frozenset({"groups", "throughput"})).values()
    assert found == {key: whole()[key] for key in ("throughput/completions", "throughput/tokens")}

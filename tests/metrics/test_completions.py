"""Completions: lengths, and how they hang together with reward and success."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.completions import completion_metrics
from toolkit.metrics.histogram import LENGTH_EDGES

BATCH, TIME = 8, 12
Arrays = dict[str, np.ndarray]


@jax.jit
def jitted(arrays: dict[str, Array]) -> dict[str, Array]:
    """The finished metrics."""
    return values(completion_metrics(**arrays))


def measured(arrays: Arrays) -> dict[str, np.ndarray]:
    """The family under jit; the histogram as its counts."""
    found = jitted({name: jnp.asarray(x) for name, x in arrays.items()})
    return {key: np.asarray(value) for key, value in found.items()}


def draw(seed: int) -> Arrays:
    """Completions of random lengths that do not start in the first column, as prompts come before them."""
    random = np.random.default_rng(seed)
    length, rows = random.integers(0, TIME - 2, BATCH), random.random(BATCH) < 0.9
    place = np.arange(TIME)[None, :] - random.integers(0, 3, BATCH)[:, None]
    return {
        "mask": (place >= 0) & (place < length[:, None]) & rows[:, None],
        "rows": rows,
        "truncated": random.random(BATCH) < 0.3,
        "total_reward": random.normal(size=BATCH).astype(np.float32),
        "success": random.choice([0.0, 1.0, np.nan], BATCH).astype(np.float32),
    }


@pytest.mark.parametrize("seed", range(5))
def test_lengths_are_numpys(seed: int) -> None:
    """Over all completions, over those that ended, and by success; not judged is neither right nor wrong."""
    arrays = draw(seed)
    rows, success = arrays["rows"], arrays["success"]
    length = arrays["mask"].sum(axis=1).astype(np.float32)
    kept, ended = length[rows], length[rows & ~arrays["truncated"]]
    p50, p95 = np.quantile(kept, [0.5, 0.95])
    expected = {
        "length_mean": kept.mean(), "length_min": kept.min(), "length_max": kept.max(),
        "length_p50": p50, "length_p95": p95,
        "length_histogram": np.histogram(kept, np.array(LENGTH_EDGES, np.float32))[0],
        "terminated_length_mean": ended.mean(), "terminated_length_min": ended.min(),
        "terminated_length_max": ended.max(), "truncated_fraction": arrays["truncated"][rows].mean(),
        "length_reward_correlation": np.corrcoef(kept, arrays["total_reward"][rows])[0, 1],
        "length_correct": length[rows & (success == 1)].mean() if (rows & (success == 1)).any() else np.nan,
        "length_incorrect": length[rows & (success == 0)].mean() if (rows & (success == 0)).any() else np.nan,
    }  # fmt: skip
    found = measured(arrays)
    assert found.keys() == {f"completions/{key}" for key in expected}
    for key, value in expected.items():
        np.testing.assert_allclose(found[f"completions/{key}"], value, rtol=1e-4, atol=1e-6, err_msg=key)


def test_when_all_are_truncated_none_has_a_terminated_length() -> None:
    """An absence, and no length of 0."""
    arrays = draw(0) | {"truncated": np.ones(BATCH, bool)}
    found = measured(arrays)
    assert found["completions/truncated_fraction"] == 1
    assert np.isnan(found["completions/terminated_length_mean"])
    assert np.isnan(found["completions/terminated_length_min"])


def test_no_completion_has_no_value() -> None:
    """An empty batch is an absence and no error."""
    found = measured(draw(0) | {"rows": np.zeros(BATCH, bool), "mask": np.zeros((BATCH, TIME), bool)})
    assert found.pop("completions/length_histogram").sum() == 0
    assert all(np.isnan(value) for value in found.values()), found


def test_a_single_completion_has_its_length_and_no_correlation() -> None:
    """Whatever is over is padding; it is neither truncated nor judged."""
    rows = np.arange(BATCH) == 3
    arrays = {"mask": rows[:, None] & (np.arange(TIME) < 5), "rows": rows, "truncated": np.zeros(BATCH, bool)}
    judgement = {"total_reward": np.ones(BATCH, np.float32), "success": np.full(BATCH, np.nan, np.float32)}
    found = measured(arrays | judgement)
    lengths = {f"{name}_{key}" for name in ("length", "terminated_length") for key in ("mean", "min", "max")}
    lengths |= {"length_p50", "length_p95"}
    assert {key for key, value in found.items() if (value == 5).all()} == {f"completions/{key}" for key in lengths}
    assert found["completions/truncated_fraction"] == 0
    absent = {"length_reward_correlation", "length_correct", "length_incorrect"}
    assert {key for key, value in found.items() if np.isnan(value).any()} == {f"completions/{key}" for key in absent}


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_completions_without_a_reward_do_not_count_in_the_correlation(unknown: float) -> None:
    """Those of 2 and 4 tokens got 1 and 2; one that got none, or an infinite one, is as long as it likes."""
    rows = np.arange(BATCH) < 4
    length = np.array([2, 4, 11, 11, 0, 0, 0, 0])
    arrays = draw(0) | {"rows": rows, "mask": np.arange(TIME) < length[:, None]}
    rewards = np.array([1.0, 2.0, unknown, -unknown, 9.0, 9.0, 9.0, 9.0], np.float32)
    found = measured(arrays | {"total_reward": rewards})
    np.testing.assert_allclose(found["completions/length_reward_correlation"], 1.0, rtol=1e-6)
    without = measured(arrays | {"total_reward": np.full(BATCH, unknown, np.float32)})
    assert np.isnan(without["completions/length_reward_correlation"])


def test_equal_lengths_have_no_correlation_with_the_reward() -> None:
    """What does not vary cannot be what is rewarded."""
    arrays = draw(1) | {"mask": np.resize([True] * 7 + [False] * 5, (BATCH, TIME)), "rows": np.ones(BATCH, bool)}
    found = measured(arrays)
    assert found["completions/length_mean"] == 7
    assert np.isnan(found["completions/length_reward_correlation"])


def test_eager_and_jit_agree_on_what_a_mask_alone_gives() -> None:
    """The kernel needs no jit around it, and no other field than the mask."""
    arrays = draw(2)
    eager = values(completion_metrics(jnp.asarray(arrays["mask"]), jnp.asarray(arrays["rows"])))
    expected = measured(arrays)
    for key, value in eager.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-6, err_msg=key)
    assert {key.partition("_")[0] for key in eager} == {"completions/length"}

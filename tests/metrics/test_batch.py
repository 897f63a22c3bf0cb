"""Batches of any kind: the spread of each array, and how much of it succeeded."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.batch import batch_metrics
from toolkit.metrics.statistic import merged

BATCH = 6
WHOLE = np.ones(BATCH, bool)
SPREAD = {"mean", "std", "min", "max"}


def measured(
    arrays: Mapping[str, np.ndarray], rows: np.ndarray = WHOLE, thresholds: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The numbers under jit, without the prefix of the family."""
    return plain(values(jax.jit(partial(batch_metrics, thresholds=thresholds or {}))(arrays, rows)))


def plain(found: Mapping[str, Array]) -> dict[str, float]:
    """Python's numbers, without the prefix of the family."""
    return {key.removeprefix("batch/"): float(value) for key, value in found.items()}


def test_an_array_by_hand() -> None:
    """Of 1, 2, 3, 6 kept among six the mean is 3, the variance (4 + 1 + 0 + 9) / 4, and two of them reach 3."""
    rows = np.array([True, True, True, True, False, False])
    returns = np.array([1.0, 2.0, 3.0, 6.0, 100.0, -100.0], np.float32)
    assert measured({"returns": returns}, rows, {"returns": 3.0}) == pytest.approx({
        "returns/mean": 3.0,
        "returns/std": np.sqrt(3.5),
        "returns/min": 1.0,
        "returns/max": 6.0,
        "returns/success_rate": 0.5,
    })  # fmt: skip


def test_bools_are_their_own_success() -> None:
    """Three of the four kept ones are true; a mean and a deviation of bools would say the same again."""
    solved = np.array([True, True, False, True, False, False])
    assert measured({"solved": solved}, WHOLE & (np.arange(BATCH) < 4)) == {"solved/success_rate": 0.75}
    assert measured({"solved": solved}, thresholds={"solved": 2.0}) == {"solved/success_rate": 0.5}


def test_a_threshold_is_reached_by_what_equals_it() -> None:
    """Similarity 1 succeeds at a threshold of 1; a threshold of a name that is not there is nothing."""
    similarity = np.array([1.0, 1.0, 0.999, 0.0, 2.0, 0.5], np.float32)
    found = measured({"similarity": similarity}, thresholds={"similarity": 1.0, "other": 0.0})
    assert found["similarity/success_rate"] == 0.5
    assert found.keys() == {f"similarity/{key}" for key in SPREAD | {"success_rate"}}


@pytest.mark.parametrize("seed", range(2))
def test_the_spread_is_numpys_over_what_is_kept_and_finite(seed: int) -> None:
    """Against float64, with NaN and infinities among the entries: those count nowhere, in the success rate neither."""
    random = np.random.default_rng(seed)
    arrays = {name: random.normal(scale, scale, BATCH).astype(np.float32) for name, scale in (("a", 0.01), ("b", 1e4))}
    arrays["a"][random.integers(BATCH)] = np.nan
    arrays["b"][random.choice(BATCH, 2, replace=False)] = np.inf, -np.inf
    rows = random.random(BATCH) < 0.9
    thresholds = {"a": 0.01, "b": 1e4}
    expected: dict[str, float] = {}
    for name, array in arrays.items():
        kept = array[rows & np.isfinite(array)].astype(np.float64)
        spread = {"mean": kept.mean(), "std": kept.std(), "min": kept.min(), "max": kept.max()}
        rate = (kept >= thresholds[name]).mean()
        expected |= {f"{name}/{key}": value for key, value in {**spread, "success_rate": rate}.items()}
    assert measured(arrays, rows, thresholds) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float16, jnp.bfloat16])
def test_numbers_of_any_type_are_computed_in_float32(dtype: type) -> None:
    """Counts and half precision too: of 2, 3, 5, 6, 8, 12 the mean is 6, the variance 11, and half of them reach 6."""
    steps: np.ndarray = np.array([2, 3, 5, 6, 8, 12], dtype)
    assert measured({"steps": steps}, thresholds={"steps": 6.0}) == pytest.approx({
        "steps/mean": 6.0, "steps/std": np.sqrt(11.0), "steps/min": 2.0, "steps/max": 12.0, "steps/success_rate": 0.5,
    })  # fmt: skip


def test_many_arrays_are_each_what_it_is_alone() -> None:
    """Twenty at once, stacked for one computation, are not mixed up."""
    random = np.random.default_rng(0)
    arrays = {f"array_{number}": random.normal(number, 1.0, BATCH).astype(np.float32) for number in range(20)}
    together = measured(arrays, WHOLE)
    assert len(together) == 80
    for name, array in arrays.items():
        expected = [array.mean(), array.std(), array.min(), array.max()]
        assert [together[f"{name}/{key}"] for key in ("mean", "std", "min", "max")] == pytest.approx(expected, rel=1e-5)


def test_nothing_gives_nothing() -> None:
    """Without arrays there are no keys; without rows, or without a finite entry, no key has a value."""
    assert measured({}) == {}
    arrays = {"a": np.zeros(BATCH, np.float32), "b": np.zeros(BATCH, bool)}
    nobody = measured(arrays, ~WHOLE, {"a": 0.0})
    assert len(nobody) == 6
    assert all(np.isnan(value) for value in nobody.values())
    broken = measured({"a": np.full(BATCH, np.nan, np.float32)}, WHOLE, {"a": 0.0})
    assert all(np.isnan(value) for value in broken.values())


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e38])
def test_what_is_not_kept_changes_nothing(garbage: float) -> None:
    """Padding may hold anything, to the last bit."""
    rows = np.array([True, False, True, True, False, True])
    array = np.arange(BATCH, dtype=np.float32)
    dirty = np.where(rows, array, np.float32(garbage))
    assert measured({"a": dirty}, rows, {"a": 2.0}) == measured({"a": array}, rows, {"a": 2.0})


def test_parts_merge_to_the_whole() -> None:
    """Stacked by `vmap`, of unequal sizes and one of them empty."""
    random = np.random.default_rng(1)
    arrays = {"a": random.normal(5.0, 2.0, (3, BATCH)).astype(np.float32), "b": random.random((3, BATCH)) < 0.5}
    rows = np.arange(BATCH) < np.array([[6], [0], [2]])
    of_part = partial(batch_metrics, thresholds={"a": 5.0})
    found = plain(values(merged(jax.jit(jax.vmap(of_part))(arrays, rows))))
    whole = of_part({name: jnp.asarray(array[rows]) for name, array in arrays.items()}, jnp.ones(8, bool))
    assert found == pytest.approx(plain(values(whole)), rel=1e-5)

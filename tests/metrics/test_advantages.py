"""Advantages: by completion and by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.advantages import advantage_metrics

SHAPE = (4, 6)
ROWS = np.array([True, True, True, False])


@jax.jit
def jitted(advantages: Array, rows: Array, mask: Array | None) -> dict[str, Array]:
    """The finished metrics."""
    return values(advantage_metrics(advantages, rows, mask))


def measured(advantages: np.ndarray, mask: np.ndarray | None, rows: np.ndarray = ROWS) -> dict[str, float]:
    """The numbers of the family under jit, and the sum of the histogram."""
    given = jnp.asarray(advantages, jnp.float32), jnp.asarray(rows), None if mask is None else jnp.asarray(mask)
    return {key: float(value.sum()) for key, value in jitted(*given).items()}


def mask_of(seed: int) -> np.ndarray:
    """A random mask that is empty in the row of padding."""
    return np.where(ROWS[:, None], np.random.default_rng(seed).random(SHAPE) < 0.7, False)


@pytest.mark.parametrize("seed", range(3))
def test_one_advantage_a_completion_is_weighted_by_completion(seed: int) -> None:
    """Only the share of positive tokens is over tokens."""
    advantages, mask = np.random.default_rng(seed).choice([-1.5, 0.0, 0.5, 2.0], SHAPE[0]), mask_of(seed)
    kept = advantages[ROWS]
    assert measured(advantages, mask) == pytest.approx({
        "advantages/mean": kept.mean(),
        "advantages/std": kept.std(),
        "advantages/abs_mean": np.abs(kept).mean(),
        "advantages/zero_fraction": np.mean(kept == 0),
        "advantages/histogram": len(kept),
        "advantages/positive_token_share": np.repeat(advantages > 0, mask.sum(axis=1)).mean(),
    })  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_advantages_by_token_are_over_the_mask(seed: int) -> None:
    """Padding and prompts are no tokens of the completion; NaN and infinities are left out."""
    advantages, mask = np.random.default_rng(seed).choice([-1.5, 0.0, 0.5, 2.0], SHAPE), mask_of(seed)
    advantages[~mask] = np.resize([np.nan, np.inf, -np.inf], (~mask).sum())
    advantages[0, 0] = np.nan
    kept = advantages[mask & np.isfinite(advantages)]
    assert measured(advantages, mask) == pytest.approx({
        "advantages/mean": kept.mean(),
        "advantages/std": kept.std(),
        "advantages/abs_mean": np.abs(kept).mean(),
        "advantages/zero_fraction": np.mean(kept == 0),
        "advantages/histogram": len(kept),
        "advantages/positive_token_share": np.mean(kept > 0),
    })  # fmt: skip


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold any advantage, by completion and by token."""
    mask, random = mask_of(4), np.random.default_rng(4)
    for advantages, kept in ((random.normal(size=SHAPE[0]), ROWS), (random.normal(size=SHAPE), mask)):
        assert measured(np.where(kept, advantages, garbage), mask) == measured(advantages, mask)


def test_without_a_mask_advantages_by_token_are_over_the_rows() -> None:
    """What is not known to be padding counts, and no share of tokens is claimed."""
    advantages = np.where(ROWS[:, None], 2.0, np.full(SHAPE, 99.0))
    found = measured(advantages, None)
    assert found["advantages/mean"] == found["advantages/abs_mean"] == 2
    assert found["advantages/histogram"] == 18
    assert "advantages/positive_token_share" not in found


def test_a_single_completion_has_no_spread() -> None:
    """Its advantage is the mean, and the distance to it is 0."""
    rows = np.array([False, True, False, False])
    found = measured(np.array([9.0, -1.5, np.nan, 9.0]), np.broadcast_to(rows[:, None], SHAPE), rows)
    assert found == {
        "advantages/mean": -1.5, "advantages/std": 0, "advantages/abs_mean": 1.5,
        "advantages/zero_fraction": 0, "advantages/histogram": 1, "advantages/positive_token_share": 0,
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["completions", "advantages"])
@pytest.mark.parametrize("shape", [SHAPE[:1], SHAPE])
def test_nothing_to_measure_has_no_value(shape: tuple[int, ...], missing: str) -> None:
    """An empty batch, or advantages that are all NaN, are an absence and no error."""
    advantages, kept = np.full(shape, np.nan if missing == "advantages" else 1.0), missing == "advantages"
    found = measured(advantages, np.full(SHAPE, kept), np.full(SHAPE[0], kept))
    assert found.pop("advantages/histogram") == 0
    assert all(np.isnan(value) for value in found.values()), found


def test_eager_and_jit_agree() -> None:
    """The kernel needs no jit around it."""
    advantages, mask = np.linspace(-1, 1, SHAPE[0]), mask_of(9)
    eager = values(advantage_metrics(jnp.asarray(advantages, jnp.float32), jnp.asarray(ROWS), jnp.asarray(mask)))
    expected = measured(advantages, mask)
    assert {key: float(value.sum()) for key, value in eager.items()} == pytest.approx(expected, rel=1e-6)

"""Advantages: by completion and by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.metrics.advantages import advantage_metrics
from toolkit.metrics.reduction import Bins

SHAPE = (4, 6)
ROWS = np.array([True, True, True, False])
jitted = jax.jit(advantage_metrics)


def measured(advantages: np.ndarray, mask: np.ndarray | None, rows: np.ndarray = ROWS) -> dict[str, float]:
    """The scalars of the family under jit, and the sum of the histogram."""
    given = jnp.asarray(advantages, jnp.float32), jnp.asarray(rows), None if mask is None else jnp.asarray(mask)
    found = jitted(*given)
    return {key: float(jnp.sum(value.counts) if isinstance(value, Bins) else value) for key, value in found.items()}


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


def test_without_a_mask_advantages_by_token_are_over_the_rows() -> None:
    """What is not known to be padding counts, and no share of tokens is claimed."""
    advantages = np.where(ROWS[:, None], 2.0, np.full(SHAPE, 99.0))
    found = measured(advantages, None)
    assert found["advantages/mean"] == found["advantages/abs_mean"] == 2
    assert found["advantages/histogram"] == 18
    assert "advantages/positive_token_share" not in found


@pytest.mark.parametrize("shape", [SHAPE[:1], SHAPE])
def test_no_completion_has_no_value(shape: tuple[int, ...]) -> None:
    """An empty batch is an absence and no error."""
    found = measured(np.ones(shape), np.zeros(SHAPE, bool), np.zeros(SHAPE[0], bool))
    assert found.pop("advantages/histogram") == 0
    assert all(np.isnan(value) for value in found.values()), found


def test_eager_and_jit_agree() -> None:
    """The kernel needs no jit around it."""
    advantages, mask = np.linspace(-1, 1, SHAPE[0]), mask_of(9)
    eager = advantage_metrics(jnp.asarray(advantages, jnp.float32), jnp.asarray(ROWS), jnp.asarray(mask))
    scalars = {key: float(value) for key, value in eager.items() if not isinstance(value, Bins)}
    expected = measured(advantages, mask)
    assert scalars == pytest.approx({key: expected[key] for key in scalars}, rel=1e-6)

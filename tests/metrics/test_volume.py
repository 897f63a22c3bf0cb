"""Volume: what a step holds, counted."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.statistic import merged
from toolkit.metrics.volume import volume_metrics

SHAPE = (6, 8)


@jax.jit
def jitted(rows: Array, mask: Array | None, group: Array | None) -> dict[str, Array]:
    """The finished metrics."""
    return values(volume_metrics(rows, mask, group))


def measured(rows: np.ndarray, mask: np.ndarray | None = None, group: np.ndarray | None = None) -> dict[str, float]:
    """The counts under jit, without their prefix."""
    given = [None if x is None else jnp.asarray(x) for x in (mask, group)]
    found = jitted(jnp.asarray(rows), *given)
    return {key.removeprefix("throughput/"): float(value) for key, value in found.items()}


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows are completions, their mask, and groups in any rows."""
    random = np.random.default_rng(seed)
    rows = random.random(SHAPE[0]) < 0.7
    mask = rows[:, None] & (random.random(SHAPE) < 0.6)
    return rows, mask, random.integers(0, SHAPE[0], SHAPE[0]).astype(np.int32)


def test_completions_prompts_and_tokens_by_hand() -> None:
    """Of three groups one has no completion here, and a row of padding is none."""
    rows = np.array([True, True, True, True, False, False])
    mask = rows[:, None] & (np.arange(8) < np.array([8, 0, 3, 1, 0, 0])[:, None])
    group = np.array([4, 4, 0, 4, 2, 6], np.int32)
    assert measured(rows, mask, group) == {"completions": 4, "examples": 2, "tokens": 12}


def test_counts_are_numpys() -> None:
    """Prompts are the groups that have a completion."""
    for seed in range(5):
        rows, mask, group = draw(seed)
        expected = {"completions": rows.sum(), "examples": len(set(group[rows])), "tokens": mask.sum()}
        assert measured(rows, mask, group) == expected


def test_what_is_not_known_is_not_counted() -> None:
    """Without groups no prompts, and without a mask no tokens."""
    rows, mask, group = draw(0)
    assert measured(rows).keys() == {"completions"}
    assert measured(rows, mask).keys() == {"completions", "tokens"}
    assert measured(rows, None, group).keys() == {"completions", "examples"}


def test_nothing_is_counted_as_nothing() -> None:
    """An empty batch has no completions: that is a number, and no absence."""
    found = measured(np.zeros(SHAPE[0], bool), np.zeros(SHAPE, bool), np.zeros(SHAPE[0], np.int32))
    assert found == {"completions": 0, "examples": 0, "tokens": 0}


def test_parts_add_up_without_a_jit_around_them() -> None:
    """Two parts of different groups hold what both hold."""
    rows, mask, _ = draw(1)
    group = jnp.asarray(np.arange(SHAPE[0]) // 2, jnp.int32)
    halves = [jnp.asarray(rows & half) for half in (np.arange(SHAPE[0]) < 2, np.arange(SHAPE[0]) >= 2)]
    parts = [volume_metrics(half, jnp.asarray(mask) & half[:, None], group) for half in halves]
    whole = values(merged(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)))
    assert {key: float(value) for key, value in whole.items()} == {
        f"throughput/{key}": value for key, value in measured(rows, mask, np.asarray(group)).items()
    }

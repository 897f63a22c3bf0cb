"""Reductions against NumPy: what counts, what does not, and what nothing gives."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float, Num

from toolkit.metrics import reduction

SHAPE = (6, 8)
REFERENCES: dict[str, Callable[[np.ndarray], float]] = {
    "total": np.sum,
    "mean": np.mean,
    "minimum": np.min,
    "maximum": np.max,
}
OVER_NOTHING = {"total": 0.0, "mean": np.nan, "minimum": np.inf, "maximum": -np.inf}


def every_reduction(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> dict[str, Float[Array, ""]]:
    """Each reduction of one array, by name."""
    return {name: getattr(reduction, name)(x, mask) for name in REFERENCES}


jitted = jax.jit(every_reduction)
jitted_quantiles = jax.jit(reduction.quantiles, static_argnums=2)
both_ways = pytest.mark.parametrize("reduce", [every_reduction, jitted], ids=["eager", "jit"])
Reduce = Callable[[Array, Array], dict[str, Array]]


def draw(seed: int) -> tuple[Array, Array, np.ndarray]:
    """Values with NaN and infinities among them, a mask, and the entries that count."""
    random = np.random.default_rng(seed)
    x = random.normal(1.0, 3.0, SHAPE).astype(np.float32)
    x[random.random(SHAPE) < 0.2] = np.nan
    x[0, :2] = np.inf, -np.inf
    mask = random.random(SHAPE) < 0.7
    return jnp.asarray(x), jnp.asarray(mask), x[mask & np.isfinite(x)]


@both_ways
@pytest.mark.parametrize("seed", range(3))
def test_a_reduction_is_numpys_over_what_counts(reduce: Reduce, seed: int) -> None:
    """Kept by the mask and finite: nothing else takes part."""
    x, mask, kept = draw(seed)
    for name, value in reduce(x, mask).items():
        np.testing.assert_allclose(value, REFERENCES[name](kept.astype(np.float64)), rtol=2e-5, err_msg=name)


def test_reductions_by_hand() -> None:
    """Of 1, 2, 3, 6 the mean is 3, whatever lies behind the mask."""
    x = jnp.zeros(SHAPE).at[0, :6].set(jnp.array([1.0, 2.0, 3.0, 6.0, jnp.nan, 100.0]))
    mask = jnp.zeros(SHAPE, bool).at[0, :5].set(True)
    expected = {"total": 12.0, "mean": 3.0, "minimum": 1.0, "maximum": 6.0}
    assert {name: float(value) for name, value in jitted(x, mask).items()} == pytest.approx(expected)
    assert float(reduction.count(mask)) == 5
    assert float(reduction.count(reduction.counted(x, mask))) == 4


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything."""
    x, mask, _ = draw(7)
    dirty = jnp.where(mask, x, garbage)
    for name, value in jitted(dirty, mask).items():
        np.testing.assert_array_equal(value, jitted(x, mask)[name], err_msg=name)
    flat = dirty.reshape(-1), mask.reshape(-1)
    np.testing.assert_array_equal(jitted_quantiles(*flat, (0.5,)), jitted_quantiles(x.reshape(-1), flat[1], (0.5,)))


@both_ways
@pytest.mark.parametrize("fill", [1.0, np.nan, np.inf])
def test_nothing_to_reduce_has_no_value(reduce: Reduce, fill: float) -> None:
    """An empty mask, or one that keeps only what is not finite: no mean, a sum of 0, and extremes that merge."""
    x, mask = jnp.full(SHAPE, fill), jnp.full(SHAPE, not np.isfinite(fill))
    found = {name: float(value) for name, value in reduce(x, mask).items()}
    assert found == pytest.approx(OVER_NOTHING, nan_ok=True)
    assert np.isnan(jitted_quantiles(x.reshape(-1), mask.reshape(-1), (0.1, 0.9))).all()


def test_arrays_without_entries_are_nothing_too() -> None:
    """A batch of no tokens raises nothing."""
    found = jitted(jnp.zeros((6, 0)), jnp.zeros((6, 0), bool))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(OVER_NOTHING, nan_ok=True)


def test_bfloat16_is_reduced_in_float32() -> None:
    """A sum in bfloat16 would stop growing at 256."""
    x = jnp.linspace(0.5, 3.0, 4096, dtype=jnp.bfloat16)
    mask = jnp.ones(4096, bool)
    exact = np.asarray(x, np.float64)
    for name, value in jitted(x, mask).items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, REFERENCES[name](exact), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(jitted_quantiles(x, mask, (0.25,)), np.quantile(exact, [0.25]), rtol=1e-6)


def test_whole_numbers_are_reduced_too() -> None:
    """Lengths may come as integers."""
    x, mask = jnp.arange(8, dtype=jnp.int32), jnp.arange(8) > 3
    assert {name: float(value) for name, value in jitted(x, mask).items()} == {
        "total": 22, "mean": 5.5, "minimum": 4, "maximum": 7
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_numpys(seed: int) -> None:
    """Linear interpolation over the entries that count, as `numpy.quantile`."""
    x, mask, kept = draw(seed)
    q = (0.0, 0.1, 0.5, 0.9, 1.0)
    found = jitted_quantiles(x.reshape(-1), mask.reshape(-1), q)
    np.testing.assert_allclose(found, np.quantile(kept, q), rtol=1e-5)

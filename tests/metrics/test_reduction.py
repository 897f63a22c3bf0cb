"""Reductions against NumPy and SciPy: what counts, what does not, and what nothing gives."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float, Num
from scipy import stats

from toolkit.metrics import reduction
from toolkit.metrics.reduction import ENTROPY_EDGES, LENGTH_EDGES, SIGNED_LOG_EDGES, Bins

SHAPE = (6, 8)
EDGES = (-2.0, -1.0, -0.25, 0.0, 0.5, 2.0)
REFERENCES: dict[str, Callable[[np.ndarray], float]] = {
    "total": np.sum,
    "mean": np.mean,
    "variance": np.var,
    "std": np.std,
    "minimum": np.min,
    "maximum": np.max,
}


def every_reduction(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> dict[str, Float[Array, ""]]:
    """Each reduction of one array, by name."""
    return {name: getattr(reduction, name)(x, mask) for name in REFERENCES}


jitted = jax.jit(every_reduction)
jitted_correlation = jax.jit(reduction.correlation)
jitted_quantiles = jax.jit(reduction.quantiles, static_argnums=2)
jitted_histogram = jax.jit(reduction.histogram, static_argnums=2)
both_ways = pytest.mark.parametrize("reduce", [every_reduction, jitted], ids=["eager", "jit"])
Reduce = Callable[[Array, Array], dict[str, Array]]


@partial(jax.jit, static_argnums=1)
def jitted_histogram_quantiles(bins: Bins, quantiles: tuple[float, ...]) -> list[Array]:
    """The quantile that a histogram implies, for each q."""
    return [reduction.histogram_quantile(bins, q) for q in quantiles]


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
    """Of 1, 2, 3, 6 the mean is 3 and the variance 3.5, whatever lies behind the mask."""
    x = jnp.zeros(SHAPE).at[0, :6].set(jnp.array([1.0, 2.0, 3.0, 6.0, jnp.nan, 100.0]))
    mask = jnp.zeros(SHAPE, bool).at[0, :5].set(True)
    expected = {"total": 12.0, "mean": 3.0, "variance": 3.5, "std": 3.5**0.5, "minimum": 1.0, "maximum": 6.0}
    assert {name: float(value) for name, value in jitted(x, mask).items()} == pytest.approx(expected)
    assert float(reduction.share(x > 1.5, mask)) == pytest.approx(3 / 5)  # a condition on NaN is just false
    assert float(reduction.count(mask)) == 5


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything."""
    x, mask, _ = draw(7)
    dirty = jnp.where(mask, x, garbage)
    for name, value in jitted(dirty, mask).items():
        np.testing.assert_array_equal(value, jitted(x, mask)[name], err_msg=name)
    flat = dirty.reshape(-1), mask.reshape(-1)
    np.testing.assert_array_equal(jitted_quantiles(*flat, (0.5,)), jitted_quantiles(x.reshape(-1), flat[1], (0.5,)))
    counts = [jitted_histogram(values, mask, EDGES).counts for values in (dirty, x)]
    np.testing.assert_array_equal(*counts)
    y, *_ = draw(8)
    np.testing.assert_array_equal(jitted_correlation(dirty, y, mask), jitted_correlation(x, y, mask))


@both_ways
@pytest.mark.parametrize("fill", [1.0, np.nan, np.inf])
def test_nothing_to_reduce_has_no_value(reduce: Reduce, fill: float) -> None:
    """An empty mask, or one that keeps only what is not finite, gives NaN; a sum of nothing is 0."""
    x, mask = jnp.full(SHAPE, fill), jnp.full(SHAPE, not np.isfinite(fill))
    values = reduce(x, mask)
    assert float(values.pop("total")) == 0
    assert all(np.isnan(value) for value in values.values()), values
    assert np.isnan(jitted_quantiles(x.reshape(-1), mask.reshape(-1), (0.1, 0.9))).all()
    assert np.isnan(jitted_correlation(x, x, mask))
    assert np.isnan(jitted_histogram_quantiles(jitted_histogram(x, mask, EDGES), (0.5,))).all()
    assert np.isnan(reduction.share(x > 0, jnp.zeros(SHAPE, bool)))


def test_arrays_without_entries_have_no_value() -> None:
    """A batch of no tokens raises nothing."""
    values = jitted(jnp.zeros((6, 0)), jnp.zeros((6, 0), bool))
    assert {name for name, value in values.items() if np.isnan(value)} == set(REFERENCES) - {"total"}


def test_bfloat16_is_reduced_in_float32() -> None:
    """A sum in bfloat16 would stop growing at 256."""
    x = jnp.linspace(0.5, 3.0, 4096, dtype=jnp.bfloat16)
    mask = jnp.ones(4096, bool)
    exact = np.asarray(x, np.float64)
    for name, value in jitted(x, mask).items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, REFERENCES[name](exact), rtol=1e-5, err_msg=name)
    slope = jitted_correlation(x, jnp.arange(4096, dtype=jnp.float32), mask)
    np.testing.assert_allclose(slope, np.corrcoef(exact, np.arange(4096))[0, 1], rtol=1e-5)
    np.testing.assert_allclose(jitted_quantiles(x, mask, (0.25,)), np.quantile(exact, [0.25]), rtol=1e-6)


def test_whole_numbers_are_reduced_too() -> None:
    """Lengths may come as integers."""
    x, mask = jnp.arange(8, dtype=jnp.int32), jnp.arange(8) > 3
    values = jitted(x, mask)
    assert {name: float(values[name]) for name in ("total", "mean", "minimum", "maximum")} == {
        "total": 22, "mean": 5.5, "minimum": 4, "maximum": 7
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_numpys(seed: int) -> None:
    """Linear interpolation over the entries that count, as `numpy.quantile`."""
    x, mask, kept = draw(seed)
    q = (0.0, 0.1, 0.5, 0.9, 1.0)
    found = jitted_quantiles(x.reshape(-1), mask.reshape(-1), q)
    np.testing.assert_allclose(found, np.quantile(kept, q), rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_correlation_is_pearsons(seed: int) -> None:
    """Over the pairs that are finite on both sides."""
    x, mask, _ = draw(seed)
    noise, *_ = draw(seed + 50)
    y = 0.5 * x + noise
    valid = np.asarray(mask) & np.isfinite(x) & np.isfinite(y)
    expected = stats.pearsonr(np.asarray(x, np.float64)[valid], np.asarray(y, np.float64)[valid]).statistic
    np.testing.assert_allclose(jitted_correlation(x, y, mask), expected, rtol=1e-4)
    np.testing.assert_allclose(jitted_correlation(y * 1e-12, x * 1e12, mask), expected, rtol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_what_does_not_vary_has_no_correlation(constant: float) -> None:
    """Also where the mean of equal entries is not exactly one of them."""
    x, mask, _ = draw(3)
    assert np.isnan(jitted_correlation(jnp.full(SHAPE, constant), x, mask))
    assert np.isnan(jitted_correlation(x, jnp.full(SHAPE, constant), mask))


@pytest.mark.parametrize("edges", [EDGES, SIGNED_LOG_EDGES, ENTROPY_EDGES], ids=["few", "rewards", "entropy"])
def test_a_histogram_is_numpys_with_the_rest_in_the_outermost_bins(edges: tuple[float, ...]) -> None:
    """Every entry that counts is in exactly one bin, those on an edge in the bin above it."""
    x, mask, kept = draw(5)
    on_edges = jnp.resize(jnp.array([*edges, -1e9, 1e9], jnp.float32), SHAPE)
    float32_edges = np.array(edges, np.float32)
    for values, counting in ((x, kept), (on_edges, np.asarray(on_edges)[np.asarray(mask)])):
        bins = jitted_histogram(values, mask, edges)
        inside = np.clip(counting, float32_edges[0], float32_edges[-1])
        np.testing.assert_array_equal(bins.counts, np.histogram(inside, float32_edges)[0])
        assert float(bins.counts.sum()) == counting.size


def test_histograms_merge_by_addition() -> None:
    """The counts of two halves add up to those of the whole."""
    x, mask, _ = draw(6)
    first_half = jnp.zeros(SHAPE, bool).at[:3].set(True)
    first, second = (jitted_histogram(x, mask & half, EDGES).counts for half in (first_half, ~first_half))
    assert float(first.sum()) > 0 < float(second.sum())
    np.testing.assert_array_equal(first + second, jitted_histogram(x, mask, EDGES).counts)


def test_histogram_quantiles_by_hand() -> None:
    """Ten entries in [0, 1) and thirty in [3, 5): the median is a third into the last bin, and no empty bin is hit."""
    bins = Bins(jnp.array([10.0, 0.0, 30.0]), (0.0, 1.0, 3.0, 5.0))
    expected = {0.0: 0.0, 0.125: 0.5, 0.25: 1.0, 0.5: 3 + 2 / 3, 1.0: 5.0}
    np.testing.assert_allclose(jitted_histogram_quantiles(bins, tuple(expected)), list(expected.values()), rtol=1e-6)
    assert float(reduction.histogram_quantile(Bins(jnp.array([0.0, 0.0, 4.0]), bins.edges), 0.0)) == 3.0


@pytest.mark.parametrize("seed", range(3))
def test_a_histogram_quantile_is_exact_to_a_bins_width(seed: int) -> None:
    """Against the sorted entries themselves, over the whole range of q."""
    entropy = np.random.default_rng(seed).gamma(0.5, 0.8, SHAPE).astype(np.float32)
    bins = jitted_histogram(jnp.asarray(entropy), jnp.ones(SHAPE, bool), ENTROPY_EDGES)
    quantiles = (0.01, 0.1, 0.25, 0.4, 0.5, 0.77, 0.9, 0.99)
    exact = np.quantile(entropy, quantiles, method="inverted_cdf")
    edges_above = np.searchsorted(ENTROPY_EDGES, exact, side="right")
    width = np.array(ENTROPY_EDGES)[edges_above] - np.array(ENTROPY_EDGES)[edges_above - 1]
    assert (np.abs(np.array(jitted_histogram_quantiles(bins, quantiles)) - exact) <= width + 1e-5).all()


def test_many_entries_give_numpys_quantile() -> None:
    """Where entries lie close to each other, interpolation between them no longer matters."""
    entropy = np.random.default_rng(0).gamma(0.5, 0.8, (64, 256)).astype(np.float32)
    bins = jitted_histogram(jnp.asarray(entropy), jnp.ones(entropy.shape, bool), ENTROPY_EDGES)
    quantiles = (0.1, 0.5, 0.9)
    np.testing.assert_allclose(jitted_histogram_quantiles(bins, quantiles), np.quantile(entropy, quantiles), atol=0.05)


def test_the_fixed_edges_are_what_they_say() -> None:
    """Twelve bins a decade on both sides of 0, two an octave of tokens, and the entropy of a large vocabulary."""
    for edges in (SIGNED_LOG_EDGES, LENGTH_EDGES, ENTROPY_EDGES):
        assert (np.diff(np.array(edges, np.float32)) > 0).all()
    np.testing.assert_allclose(SIGNED_LOG_EDGES, -np.array(SIGNED_LOG_EDGES[::-1]))
    assert sum(0.999 < edge < 9.99 for edge in SIGNED_LOG_EDGES) == 12
    assert (SIGNED_LOG_EDGES[0], SIGNED_LOG_EDGES[-1]) == pytest.approx((-1000, 1000))
    assert LENGTH_EDGES[-1] == 131_072
    assert sum(128 <= edge < 256 for edge in LENGTH_EDGES) == 2
    assert ENTROPY_EDGES[-1] == pytest.approx(np.log(162_755), rel=1e-6)

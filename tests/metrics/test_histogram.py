"""Histograms against NumPy: each entry in exactly one bin, and quantiles that are exact to a bin's width."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from toolkit.metrics.histogram import (
    ENTROPY_EDGES,
    LENGTH_EDGES,
    SIGNED_LOG_EDGES,
    Bins,
    entropy_bin,
    histogram,
    histogram_quantile,
)

SHAPE = (6, 8)
MANY = (64, 256)
EDGES = (-2.0, -1.0, -0.25, 0.0, 0.5, 2.0)
QUANTILES = (0.01, 0.1, 0.25, 0.4, 0.5, 0.77, 0.9, 0.99)
WHOLE = np.ones(SHAPE, bool)
jitted = jax.jit(histogram, static_argnums=(2, 3))
jitted_entropy_bin = jax.jit(entropy_bin)


@partial(jax.jit, static_argnums=1)
def jitted_quantiles(bins: Bins, quantiles: tuple[float, ...]) -> list[Array]:
    """The quantile that a histogram implies, for each q."""
    return [histogram_quantile(bins, q) for q in quantiles]


def counts(x: np.ndarray, mask: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """The counts of a histogram whose bins are searched for, under jit."""
    return np.asarray(jitted(jnp.asarray(x, jnp.float32), jnp.asarray(mask), edges).counts)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values with NaN and infinities among them, and a mask."""
    random = np.random.default_rng(seed)
    x = random.normal(0.0, 1.5, SHAPE).astype(np.float32)
    x[random.random(SHAPE) < 0.2] = np.nan
    x[0, :2] = np.inf, -np.inf
    return x, random.random(SHAPE) < 0.7


def entropies(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Nats as a policy has them: mostly near 0, some above 1."""
    return np.random.default_rng(seed).gamma(0.5, 0.8, shape).astype(np.float32)


@pytest.mark.parametrize("edges", [EDGES, SIGNED_LOG_EDGES, ENTROPY_EDGES], ids=["few", "rewards", "entropy"])
def test_a_histogram_is_numpys_with_the_rest_in_the_outermost_bins(edges: tuple[float, ...]) -> None:
    """Every entry that counts is in exactly one bin, those on an edge in the bin above it."""
    x, mask = draw(5)
    on_edges = np.resize(np.array([*edges, -1e9, 1e9], np.float32), SHAPE)
    float32_edges = np.array(edges, np.float32)
    for each in (x, on_edges):
        kept = each[mask & np.isfinite(each)]
        inside = np.clip(kept, float32_edges[0], float32_edges[-1])
        found = counts(each, mask, edges)
        np.testing.assert_array_equal(found, np.histogram(inside, float32_edges)[0])
        assert found.sum() == kept.size


def test_a_histogram_by_hand() -> None:
    """Values outside count in the outermost bins; NaN, infinities and what the mask drops count nowhere."""
    x = np.full(SHAPE, np.nan)
    x[0] = [-9.0, -1.5, -1.0, 0.49, 0.5, 7.0, np.inf, -np.inf]
    mask = WHOLE.copy()
    mask[0, 1] = False
    np.testing.assert_array_equal(counts(x, mask, EDGES), [1, 1, 0, 1, 2])


def test_all_entries_may_fall_into_one_bin() -> None:
    """Each of them counts, with and without a formula for the bins."""
    x, mask = jnp.full(MANY, 0.3), jnp.ones(MANY, bool)
    for bins in (jitted(x, mask, ENTROPY_EDGES), jitted(x, mask, ENTROPY_EDGES, entropy_bin)):
        assert bins.counts.dtype == jnp.float32
        occupied = np.searchsorted(ENTROPY_EDGES, 0.3, side="right") - 1
        np.testing.assert_array_equal(bins.counts, np.where(np.arange(96) == occupied, 64 * 256, 0))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything, also where the bin is calculated."""
    x, mask = draw(7)
    dirty = np.where(mask, x, garbage)
    np.testing.assert_array_equal(counts(dirty, mask, EDGES), counts(x, mask, EDGES))
    calculated = [jitted(jnp.asarray(each), jnp.asarray(mask), ENTROPY_EDGES, entropy_bin) for each in (dirty, x)]
    np.testing.assert_array_equal(calculated[0].counts, calculated[1].counts)


def test_histograms_merge_by_addition() -> None:
    """The counts of two halves add up to those of the whole."""
    x, mask = draw(6)
    first_half = np.arange(SHAPE[0])[:, None] < 3
    halves = [jitted(jnp.asarray(x), jnp.asarray(mask & half), EDGES) for half in (first_half, ~first_half)]
    assert all(float(half.counts.sum()) > 0 for half in halves)
    whole = jax.tree.map(lambda *leaves: jnp.stack(leaves), *halves).merged()
    assert whole.edges == EDGES
    assert whole.value is whole
    np.testing.assert_array_equal(whole.counts, counts(x, mask, EDGES))


@pytest.mark.parametrize("seed", range(3))
def test_the_bin_of_an_entropy_is_the_one_that_a_search_finds(seed: int) -> None:
    """Away from the edges themselves, where rounding decides."""
    random, edges = np.random.default_rng(seed), np.array(ENTROPY_EDGES)
    drawn = random.uniform(0.0, 12.0, MANY) * random.random(MANY)
    inside = np.abs(drawn[..., None] - edges).min(axis=-1) > 1e-5
    expected = np.searchsorted(edges, drawn, side="right") - 1
    found = np.asarray(jitted_entropy_bin(jnp.asarray(drawn, jnp.float32)))
    assert inside.mean() > 0.99
    np.testing.assert_array_equal(found[inside], expected[inside])


def test_entropies_out_of_range_are_in_the_outermost_bins() -> None:
    """Above 12 nats, however far, and just below 0, as rounding leaves it."""
    x = np.full(SHAPE, np.nan)
    x[0] = [-1e-6, -5.0, 0.0, 12.0, 12.5, 1e38, np.inf, -np.inf]
    found = jitted(jnp.asarray(x, jnp.float32), jnp.asarray(WHOLE), ENTROPY_EDGES, entropy_bin).counts
    np.testing.assert_array_equal(found, [3] + [0] * 94 + [3])


def test_histogram_quantiles_by_hand() -> None:
    """Ten entries in [0, 1) and thirty in [3, 5): the median is a third into the last bin, and no empty bin is hit."""
    bins = Bins(jnp.array([10.0, 0.0, 30.0]), (0.0, 1.0, 3.0, 5.0))
    expected = {0.0: 0.0, 0.125: 0.5, 0.25: 1.0, 0.5: 3 + 2 / 3, 1.0: 5.0}
    np.testing.assert_allclose(jitted_quantiles(bins, tuple(expected)), list(expected.values()), rtol=1e-6)
    assert float(histogram_quantile(Bins(jnp.array([0.0, 0.0, 4.0]), bins.edges), 0.0)) == 3.0


@pytest.mark.parametrize("fill", [1.0, np.nan, np.inf])
def test_a_histogram_of_nothing_has_no_quantile(fill: float) -> None:
    """An empty mask, or one that keeps only what is not finite."""
    bins = jitted(jnp.full(SHAPE, fill), jnp.full(SHAPE, not np.isfinite(fill)), EDGES)
    assert float(bins.counts.sum()) == 0
    assert np.isnan(jitted_quantiles(bins, (0.5,))).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_histogram_quantile_is_exact_to_a_bins_width(seed: int) -> None:
    """Against the sorted entries themselves, over the whole range of q."""
    entropy = entropies(seed)
    bins = jitted(jnp.asarray(entropy), jnp.asarray(WHOLE), ENTROPY_EDGES)
    exact = np.quantile(entropy, QUANTILES, method="inverted_cdf")
    edges_above = np.searchsorted(ENTROPY_EDGES, exact, side="right")
    width = np.array(ENTROPY_EDGES)[edges_above] - np.array(ENTROPY_EDGES)[edges_above - 1]
    assert (np.abs(np.array(jitted_quantiles(bins, QUANTILES)) - exact) <= width + 1e-5).all()


def test_many_entries_give_numpys_quantile() -> None:
    """Where entries lie close to each other, interpolation between them no longer matters."""
    entropy = entropies(0, MANY)
    bins = jitted(jnp.asarray(entropy), jnp.ones(MANY, bool), ENTROPY_EDGES)
    np.testing.assert_allclose(jitted_quantiles(bins, QUANTILES), np.quantile(entropy, QUANTILES), atol=0.05)


def test_eager_and_jit_agree() -> None:
    """Neither a histogram nor its quantile needs a jit around it."""
    x, mask = draw(1)
    eager = histogram(jnp.asarray(x), jnp.asarray(mask), EDGES)
    np.testing.assert_array_equal(eager.counts, counts(x, mask, EDGES))
    np.testing.assert_allclose(histogram_quantile(eager, 0.5), jitted_quantiles(eager, (0.5,))[0], rtol=1e-6)


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

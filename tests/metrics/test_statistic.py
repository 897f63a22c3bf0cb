"""Statistics against NumPy and SciPy, and the whole from its parts: however it is cut, the value is the same."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Array
from scipy import stats

from tests.metrics.values import values
from toolkit.metrics import statistic
from toolkit.metrics.histogram import SIGNED_LOG_EDGES, histogram
from toolkit.metrics.statistic import Deviation, EffectiveShare, RootMean, Statistic, merged

SIZE, PARTS = 24, 4
Q = (0.1, 0.5, 0.9)
QUANTILES = ("p10", "p50", "p90")
ROUGH = ("rough_p10", "rough_p50", "rough_p90")
WHOLE = np.ones(SIZE, bool)


def every_statistic(x: Array, y: Array, mask: Array) -> dict[str, Statistic]:
    """Each kind of statistic of one or two arrays, by name."""
    first, squares = statistic.mean(x, mask), statistic.mean(jnp.square(x), mask)
    bins = histogram(x, mask, SIGNED_LOG_EDGES)
    exact = statistic.quantiles(x, mask, Q, SIGNED_LOG_EDGES)
    rough = statistic.rough_quantiles(x, mask, Q, bins)
    return {
        "total": statistic.total(x, mask),
        "mean": first,
        "root_mean": RootMean(squares.total, squares.count),
        "share": statistic.share(x > y, mask),
        "effective_share": EffectiveShare(first.total, squares.total, first.count),
        "minimum": statistic.minimum(x, mask),
        "maximum": statistic.maximum(x, mask),
        "std": statistic.std(x, mask),
        "covariance": statistic.covariance(x, y, mask),
        "correlation": statistic.correlation(x, y, mask),
        "histogram": bins,
        **dict(zip(QUANTILES, exact, strict=True)),
        **dict(zip(ROUGH, rough, strict=True)),
    }


jitted_statistics = jax.jit(every_statistic)


@jax.jit
def jitted(x: Array, y: Array, mask: Array) -> dict[str, Array]:
    """The values over the whole."""
    return values(every_statistic(x, y, mask))


@jax.jit
def jitted_parts(x: Array, y: Array, masks: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """The values from four parts: merged at once, and merged from the wholes of two each."""
    stacked = jax.vmap(every_statistic, in_axes=(None, None, 0))(x, y, masks)
    in_pairs = jax.tree.map(lambda leaf: leaf.reshape(2, PARTS // 2, *leaf.shape[1:]), stacked)
    return values(merged(stacked)), values(merged(jax.vmap(merged)(in_pairs)))


def measured(x: np.ndarray, y: np.ndarray | None = None, mask: np.ndarray = WHOLE) -> dict[str, np.ndarray]:
    """The values over the whole, from NumPy arrays of up to `SIZE` entries."""
    return {name: np.asarray(value) for name, value in jitted(*on_device(x, y), jnp.asarray(fitted(mask))).items()}


def from_parts(x: np.ndarray, y: np.ndarray | None, masks: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The values from the parts that the masks cut, merged in both ways."""
    found = jitted_parts(*on_device(x, y), jnp.asarray(masks))
    return [{name: np.asarray(value) for name, value in way.items()} for way in found]


def on_device(x: np.ndarray, y: np.ndarray | None) -> tuple[Array, Array]:
    """Both arrays, filled up with NaN; the second is the first unless it is given."""
    filled = [np.pad(each, (0, SIZE - len(each)), constant_values=np.nan) for each in (x, x if y is None else y)]
    return jnp.asarray(filled[0], jnp.float32), jnp.asarray(filled[1], jnp.float32)


def fitted(mask: np.ndarray) -> np.ndarray:
    """The mask, which keeps nothing of what was filled up."""
    return np.pad(mask, (0, SIZE - len(mask)))


def reference(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> dict[str, float | np.ndarray]:
    """Every statistic but the quantiles, by NumPy in float64."""
    kept = x[mask & np.isfinite(x)].astype(np.float64)
    both = mask & np.isfinite(x) & np.isfinite(y)
    pair = x[both].astype(np.float64), y[both].astype(np.float64)
    varies = both.any() and min(map(np.ptp, pair)) > 0
    inside = np.clip(kept.astype(np.float32), SIGNED_LOG_EDGES[0], SIGNED_LOG_EDGES[-1])
    known = {
        "total": kept.sum(),
        "share": np.mean((x > y)[mask]) if mask.any() else np.nan,
        "covariance": np.cov(*pair, bias=True)[0, 1] if both.any() else np.nan,
        "correlation": np.corrcoef(*pair)[0, 1] if varies else np.nan,
        "histogram": np.histogram(inside, np.array(SIGNED_LOG_EDGES, np.float32))[0],
    }
    of_kept: dict[str, Callable[[np.ndarray], float]] = {
        "mean": np.mean,
        "root_mean": lambda kept: np.sqrt(np.mean(kept**2)),
        "effective_share": lambda kept: np.mean(kept) ** 2 / np.mean(kept**2) if kept.any() else np.nan,
        "minimum": np.min,
        "maximum": np.max,
        "std": np.std,
    }
    return known | {name: function(kept) if kept.size else np.nan for name, function in of_kept.items()}


def assert_quantiles_lie_within_a_bin(found: dict[str, np.ndarray], kept: np.ndarray, names: tuple[str, ...]) -> None:
    """Of the entry that has the quantile's rank, and never outside of what there is."""
    edges = np.array(SIGNED_LOG_EDGES)
    for name, q in zip(names, Q, strict=True):
        if not kept.size:
            assert np.isnan(found[name])
            continue
        # A rank that rounding may move over a whole number is that of either neighbour.
        around = [np.quantile(kept, np.clip(q + shift, 0, 1), method="inverted_cdf") for shift in (-1e-6, 1e-6)]
        bins = np.clip(np.searchsorted(edges, around, side="right") - 1, 0, len(edges) - 2)
        assert edges[bins[0]] - 1e-4 <= found[name] <= edges[bins[1] + 1] + 1e-4, name
        assert kept.min() <= found[name] <= kept.max(), name


def sprinkled(eighths: np.ndarray) -> np.ndarray:
    """Numbers from -64 to 64 in eighths, with 513, 514 and 515 standing for what is no number."""
    odd = [eighths == code for code in (513, 514, 515)]
    return np.select(odd, [np.nan, np.inf, -np.inf], eighths / 8).astype(np.float32)


# Float32 holds them exactly, so that what varies does so by more than rounding.
numbers = arrays(np.int16, SIZE, elements=st.integers(-512, 515), fill=st.nothing()).map(sprinkled)
masks = arrays(bool, SIZE, elements=st.booleans(), fill=st.nothing())
cuts = arrays(np.int8, SIZE, elements=st.integers(0, PARTS - 1), fill=st.nothing())
few = settings(max_examples=50, deadline=None, derandomize=True)


def parts_of(mask: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The masks of four parts: an entry belongs to the part that the cut says."""
    parts: np.ndarray = mask & (cut == np.arange(PARTS)[:, None])
    return parts


@few
@given(numbers, numbers, masks)
def test_a_statistic_is_numpys_over_what_counts(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """Kept by the mask and finite, in both arrays where there are two: nothing else takes part."""
    found, kept = measured(x, y, mask), x[mask & np.isfinite(x)]
    for name, value in reference(x, y, mask).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-4, err_msg=name)
    for name, q in zip(QUANTILES, Q, strict=True):
        expected = np.quantile(kept.astype(np.float64), q) if kept.size else np.nan
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=2e-4, err_msg=name)
    assert_quantiles_lie_within_a_bin(found, kept, ROUGH)


@few
@given(numbers, numbers, masks, cuts, st.permutations(range(PARTS)))
def test_parts_merge_to_the_whole(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, cut: np.ndarray, order: list[int]
) -> None:
    """However the entries are cut, in whatever order the parts come, and merged at once or by and by."""
    parts = parts_of(mask, cut)
    expected, kept = reference(x, y, mask), x[mask & np.isfinite(x)]
    for found in (*from_parts(x, y, parts), *from_parts(x, y, parts[order])):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-4, err_msg=name)
        if (parts & np.isfinite(x)).any(axis=1).sum() > 1:
            assert_quantiles_lie_within_a_bin(found, kept, QUANTILES)
        assert_quantiles_lie_within_a_bin(found, kept, ROUGH)


@few
@given(numbers, numbers, masks, st.integers(0, PARTS - 1))
def test_parts_without_entries_change_nothing(x: np.ndarray, y: np.ndarray, mask: np.ndarray, place: int) -> None:
    """Three parts are empty, wherever the fourth stands: its quantiles stay exact too."""
    alone = measured(x, y, mask)
    for found in from_parts(x, y, parts_of(mask, np.full(SIZE, place))):
        for name, value in alone.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_a_single_part_is_the_whole(seed: int) -> None:
    """A stack of one, as a scan of one step leaves it."""
    x, y = np.random.default_rng(seed).normal(size=(2, SIZE)).astype(np.float32)
    stacked = jax.tree.map(lambda leaf: leaf[None], jitted_statistics(jnp.asarray(x), jnp.asarray(y), WHOLE))
    for name, value in values(merged(stacked)).items():
        np.testing.assert_allclose(value, measured(x, y)[name], rtol=1e-6, err_msg=name)


def test_statistics_by_hand() -> None:
    """Of 1, 2, 3, 6 the mean is 3 and the variance 3.5; twice as much varies with it by 7."""
    x = np.array([1.0, 2.0, 3.0, 6.0, np.nan, 100.0])
    y = np.array([2.0, 4.0, 6.0, 12.0, 0.0, -9.0])
    found = measured(x, y, np.array([True] * 5 + [False]))
    expected = {
        "total": 12, "mean": 3, "root_mean": 12.5**0.5, "share": 0, "effective_share": 9 / 12.5,
        "minimum": 1, "maximum": 6, "std": 3.5**0.5, "covariance": 7, "correlation": 1,
        "p10": 1.3, "p50": 2.5, "p90": 5.1,
    }  # fmt: skip
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)
    assert found["histogram"].sum() == 4


def test_a_merge_by_hand() -> None:
    """1 and 3 around 2, then 6 and 10 around 8: around 5 they vary by (1 + 1 + 4 + 4) / 4 + 9 = 11.5."""
    x, cut = np.array([1.0, 3.0, 6.0, 10.0]), np.array([0, 0, 1, 1])
    parts = np.pad(cut == np.arange(PARTS)[:, None], ((0, 0), (0, SIZE - 4)))
    expected = {
        "total": 20, "mean": 5, "minimum": 1, "maximum": 10, "std": 11.5**0.5, "covariance": -11.5,
        "correlation": -1, "effective_share": 25 / 36.5,
    }  # fmt: skip
    for found in from_parts(x, -x, parts):
        assert {name: float(found[name]) for name in expected} == pytest.approx(expected)


def test_a_merged_quantile_by_hand() -> None:
    """Of 1, 2 and 3 the median is 2; with 500 beside them the second of four is the one that half lie below."""
    x = np.array([1.0, 2.0, 3.0, 500.0])
    first, second = (fitted(np.array(mask)) for mask in ([True, True, True, False], [False, False, False, True]))
    nothing = np.zeros(SIZE, bool)
    for found in from_parts(x, None, np.stack([nothing, first, nothing, nothing])):
        assert found["p50"] == 2
    edges = np.array(SIGNED_LOG_EDGES)
    above = np.searchsorted(edges, 2.0, side="right")
    for found in from_parts(x, None, np.stack([second, nothing, first, nothing])):
        assert edges[above - 1] <= found["p50"] <= edges[above]
        assert found["p90"] <= 500  # the bin reaches further


@pytest.mark.parametrize("seed", range(3))
def test_a_correlation_is_scipys_at_any_scale(seed: int) -> None:
    """Over the pairs that are finite on both sides, however small the one and large the other."""
    random = np.random.default_rng(seed)
    x = random.normal(1.0, 3.0, SIZE)
    y = 0.5 * x + random.normal(1.0, 3.0, SIZE)
    x[:2], y[3] = np.nan, np.inf
    valid = np.isfinite(x) & np.isfinite(y)
    expected = stats.pearsonr(x[valid], y[valid]).statistic
    np.testing.assert_allclose(measured(x, y)["correlation"], expected, rtol=1e-4)
    np.testing.assert_allclose(measured(y * 1e-12, x * 1e12)["correlation"], expected, rtol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3])
def test_what_does_not_vary_has_no_correlation(constant: float) -> None:
    """Also where the mean of equal entries is not exactly one of them, and where they come in parts."""
    x, same = np.random.default_rng(3).normal(size=SIZE), np.full(SIZE, constant)
    parts = parts_of(WHOLE, np.arange(SIZE) % PARTS)
    for one, other in ((x, same), (same, x)):
        found = [measured(one, other), *from_parts(one, other, parts)]
        assert np.isnan([way["correlation"] for way in found]).all()


def test_a_small_spread_around_a_large_mean_does_not_cancel() -> None:
    """1,000,000 to 1,000,056: sums of squares in float32 would leave nothing of a variance of 336."""
    x = (1e6 + 8 * (np.arange(SIZE) % 8)).astype(np.float32)
    by_sums = np.mean(np.square(x), dtype=np.float32) - np.square(np.mean(x, dtype=np.float32))
    assert not 300 < by_sums < 400
    for cut in (np.arange(SIZE) % PARTS, np.arange(SIZE) // 8, np.zeros(SIZE)):
        for found in (measured(x), *from_parts(x, x, parts_of(WHOLE, cut))):
            np.testing.assert_allclose(found["std"], 336**0.5, rtol=1e-4)
            np.testing.assert_allclose(found["covariance"], 336, rtol=1e-4)
            np.testing.assert_allclose(found["correlation"], 1.0, rtol=1e-5)


def test_large_entries_that_are_equal_do_not_spread() -> None:
    """In any number of parts."""
    x = np.full(SIZE, 1e6)
    for found in (measured(x), *from_parts(x, x, parts_of(WHOLE, np.arange(SIZE) % 3))):
        assert found["std"] == 0
        assert found["mean"] == found["p50"] == found["minimum"] == found["maximum"] == 1e6


def test_a_spread_that_float32_cannot_square_is_not_a_small_one() -> None:
    """1e30 and -1e30 are 1e30 from their mean: 0 would be wrong."""
    assert not measured(np.resize([1e30, -1e30], SIZE))["std"] < 1e30


def test_a_spread_that_float32_cannot_square_has_no_correlation() -> None:
    """1e30 and -1e30 go with 1 and -1 as far as can be: 0 would be wrong, in either order."""
    large, small = np.resize([1e30, -1e30], SIZE), np.resize([1.0, -1.0], SIZE)
    assert np.isnan([measured(large, small)["correlation"], measured(small, large)["correlation"]]).all()


@pytest.mark.parametrize("fill", [1.0, np.nan, np.inf])
def test_nothing_has_no_value(fill: float) -> None:
    """An empty mask, or one that keeps only what is not finite, whole or in parts; a sum of nothing is 0."""
    x, mask = np.full(SIZE, fill), np.full(SIZE, not np.isfinite(fill))
    for found in (measured(x, x, mask), *from_parts(x, x, parts_of(mask, np.arange(SIZE) % PARTS))):
        assert found.pop("histogram").sum() == found.pop("total") == 0
        share = found.pop("share")
        assert share == 0 if mask.any() else np.isnan(share)  # a condition on NaN is just false
        assert all(np.isnan(value) for value in found.values()), found


def test_parts_of_one_entry_merge_to_a_distribution() -> None:
    """None of them spreads, and together they do."""
    x, y = np.array([2.0, -1.0, 8.0, np.nan]), np.array([1.0, 5.0, 0.0, 3.0])
    parts = np.pad(np.eye(PARTS, dtype=bool), ((0, 0), (0, SIZE - PARTS)))
    expected = {"mean": 3.0, "std": 14.0**0.5, "covariance": np.cov(x[:3], y[:3], bias=True)[0, 1]}
    for found in from_parts(x, y, parts):
        assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-6)


def test_a_scan_leaves_parts_that_merge() -> None:
    """Micro-batches of six, as a training loop takes them, and half of the last is padding."""
    x, mask = np.random.default_rng(5).normal(size=SIZE).astype(np.float32), np.arange(SIZE) < 21

    def micro_batch(steps: Array, part: tuple[Array, Array]) -> tuple[Array, Deviation]:
        return steps + 1, statistic.std(*part)

    parts = jnp.asarray(x).reshape(4, 6), jnp.asarray(mask).reshape(4, 6)
    steps, stacked = jax.lax.scan(micro_batch, jnp.zeros((), jnp.int32), parts)
    assert steps == 4
    np.testing.assert_allclose(stacked.merged().value, float(np.std(x[mask])), rtol=1e-5)


def test_a_quantile_keeps_its_bins_apart_from_what_was_sorted() -> None:
    """Without its exact value it is what the histogram implies."""
    x = jnp.asarray(np.random.default_rng(6).normal(size=SIZE), jnp.float32)
    exact = statistic.quantiles(x, jnp.asarray(WHOLE), (0.5,), SIGNED_LOG_EDGES)[0]
    rough = statistic.rough_quantiles(x, jnp.asarray(WHOLE), (0.5,), exact.bins)[0]
    np.testing.assert_array_equal(replace(exact, sorted_parts=jnp.zeros(())).value, rough.value)


def test_no_jit_is_needed_and_bfloat16_is_reduced_in_float32() -> None:
    """A sum in bfloat16 would stop growing at 256, and its mean keep two digits."""
    x, y = jnp.linspace(0.5, 3.0, SIZE, dtype=jnp.bfloat16), jnp.arange(SIZE, dtype=jnp.bfloat16)
    eager = values(every_statistic(x, y, jnp.asarray(WHOLE)))
    assert all(value.dtype == jnp.float32 for value in eager.values())
    expected = reference(np.asarray(x, np.float32), np.asarray(y, np.float32), WHOLE)
    for name, value in expected.items():
        # The squares that this test itself takes are of bfloat16.
        rtol = 5e-3 if name in ("root_mean", "effective_share") else 1e-5
        np.testing.assert_allclose(eager[name], value, rtol=rtol, err_msg=name)

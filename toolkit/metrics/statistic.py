"""Statistics that merge: what a part of the data leaves behind, so that the whole can be told from its parts.

A part is a micro-batch, a step of a window, or the batch of one process. A statistic holds sums, counts, extremes or a
histogram, never a finished mean: those travel, and the division comes last. Parts that are stacked along a first axis
(by `vmap`, by `lax.scan`, from several processes) become the whole by `merged`. Deviations are summed around a mean of
their own, as plain sums of squares would cancel in float32 (Chan, Golub and LeVeque 1983, Algorithms for computing the
sample variance, eq. 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from toolkit.metrics import reduction
from toolkit.metrics.histogram import Bins, histogram, histogram_quantile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Total:
    """A sum; 0 over nothing."""

    total: Float[Array, "*parts"]

    def merged(self) -> Total:
        """Totals add."""
        return Total(jnp.sum(self.total, axis=0))

    @property
    def value(self) -> Float[Array, "*parts"]:
        """The total."""
        return self.total


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Mean:
    """A mean, a share, or any other ratio of two sums."""

    total: Float[Array, "*parts"]
    count: Float[Array, "*parts"]

    def merged(self) -> Mean:
        """Totals and counts add."""
        return type(self)(jnp.sum(self.total, axis=0), jnp.sum(self.count, axis=0))

    @property
    def value(self) -> Float[Array, "*parts"]:
        """total / count; NaN over nothing."""
        return jnp.where(self.count > 0, self.total / self.count, jnp.nan)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class RootMean(Mean):
    """The root of a mean, for example of squares."""

    @property
    def value(self) -> Float[Array, "*parts"]:
        """sqrt(total / count)."""
        return jnp.sqrt(self.total / self.count)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class EffectiveShare:
    """How evenly weights lie: the effective number of entries over their number (Kish 1965, Survey Sampling)."""

    total: Float[Array, "*parts"]
    squares: Float[Array, "*parts"]
    count: Float[Array, "*parts"]

    def merged(self) -> EffectiveShare:
        """Sums and counts add."""
        return EffectiveShare(*(jnp.sum(leaf, axis=0) for leaf in (self.total, self.squares, self.count)))

    @property
    def value(self) -> Float[Array, "*parts"]:
        """(sum w)^2 / (n sum w^2), which is 1 when all weights are equal."""
        return jnp.square(self.total / self.count) / (self.squares / self.count)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Minimum:
    """The smallest entry; inf while there is none."""

    least: Float[Array, "*parts"]

    def merged(self) -> Minimum:
        """The smallest of all parts."""
        return Minimum(jnp.min(self.least, axis=0))

    @property
    def value(self) -> Float[Array, "*parts"]:
        """The smallest entry."""
        return _if_finite(self.least)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Maximum:
    """The largest entry; -inf while there is none."""

    most: Float[Array, "*parts"]

    def merged(self) -> Maximum:
        """The largest of all parts."""
        return Maximum(jnp.max(self.most, axis=0))

    @property
    def value(self) -> Float[Array, "*parts"]:
        """The largest entry."""
        return _if_finite(self.most)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Deviation:
    """A population standard deviation, from the squared distances to the mean."""

    count: Float[Array, "*parts"]
    mean: Float[Array, "*parts"]
    squares: Float[Array, "*parts"]

    def merged(self) -> Deviation:
        """The distances within the parts, and those of the parts' means."""
        mean = _pooled(self.mean, self.count)
        squares = jnp.sum(self.squares + self.count * jnp.square(self.mean - mean), axis=0)
        return Deviation(jnp.sum(self.count, axis=0), mean, squares)

    @property
    def value(self) -> Float[Array, "*parts"]:
        """sqrt(squares / count)."""
        return jnp.sqrt(self.squares / self.count)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Covariance:
    """How two quantities vary together, from the products of their distances to their means."""

    count: Float[Array, "*parts"]
    mean_x: Float[Array, "*parts"]
    mean_y: Float[Array, "*parts"]
    xx: Float[Array, "*parts"]
    yy: Float[Array, "*parts"]
    xy: Float[Array, "*parts"]

    def merged(self) -> Covariance:
        """As a deviation, with products beside squares."""
        mean_x, mean_y = _pooled(self.mean_x, self.count), _pooled(self.mean_y, self.count)
        dx, dy = self.mean_x - mean_x, self.mean_y - mean_y
        within_and_of_means = ((self.xx, dx * dx), (self.yy, dy * dy), (self.xy, dx * dy))
        sums = [jnp.sum(within + self.count * of_means, axis=0) for within, of_means in within_and_of_means]
        return type(self)(jnp.sum(self.count, axis=0), mean_x, mean_y, *sums)

    @property
    def value(self) -> Float[Array, "*parts"]:
        """The mean product of the distances (population covariance)."""
        return self.xy / self.count


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Correlation(Covariance):
    """Pearson's correlation."""

    @property
    def value(self) -> Float[Array, "*parts"]:
        """xy / sqrt(xx yy); NaN when either does not vary, or too far to be squared."""
        known = jnp.isfinite(self.xx) & jnp.isfinite(self.yy)
        vary = known & _varies(self.xx, self.mean_x, self.count) & _varies(self.yy, self.mean_y, self.count)
        return jnp.where(vary, jnp.clip(self.xy / jnp.sqrt(self.xx) / jnp.sqrt(self.yy), -1.0, 1.0), jnp.nan)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Quantile:
    """A quantile: that of a single part where it was sorted, else of the histogram, exact to a bin's width.

    `sorted_parts` counts the parts that have entries and whose quantile `exact` is known.
    """

    bins: Bins
    least: Float[Array, "*parts"]
    most: Float[Array, "*parts"]
    exact: Float[Array, "*parts"]
    sorted_parts: Float[Array, "*parts"]
    q: float = field(metadata={"static": True})

    def merged(self) -> Quantile:
        """Counts add, extremes widen, and the exact quantile stays only where no other part has entries."""
        exact = jnp.sum(jnp.where(self.sorted_parts > 0, self.exact, 0.0), axis=0)
        least, most = jnp.min(self.least, axis=0), jnp.max(self.most, axis=0)
        return Quantile(self.bins.merged(), least, most, exact, jnp.sum(self.sorted_parts, axis=0), self.q)

    @property
    def value(self) -> Float[Array, ""]:
        """What a share `q` of the entries lies below."""
        of_bins = jnp.clip(histogram_quantile(self.bins, self.q), self.least, self.most)
        return jnp.where(self.sorted_parts == 1, self.exact, of_bins)


Statistic: TypeAlias = Total | Mean | EffectiveShare | Minimum | Maximum | Deviation | Covariance | Quantile | Bins
"""What a metric is made of: a pytree with `merged()`, the whole of parts stacked along the first axis, and `value`,
which is NaN where there is nothing to tell."""


def merged(stacked: Mapping[str, Statistic]) -> dict[str, Statistic]:
    """The whole of each statistic, from parts that are stacked along the first axis."""
    return {key: statistic.merged() for key, statistic in stacked.items()}


def row(stacked: Statistic, number: int) -> Statistic:
    """One of several statistics that `vmap` stacked along the first axis."""
    taken: Statistic = jax.tree.map(lambda leaf: leaf[number], stacked)
    return taken


def total(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Total:
    """The sum."""
    return Total(reduction.total(x, mask))


def mean(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Mean:
    """The mean."""
    return mean_of_finite(x, reduction.counted(x, mask))


def means(columns: Mapping[str, Num[Array, "*shape"]], mask: Bool[Array, "*shape"]) -> dict[str, Statistic]:
    """The mean of each of several quantities: one computation for all of them is less to run than one for each."""
    found = jax.vmap(mean, in_axes=(0, None))(jnp.stack(list(columns.values())), mask)
    return {name: row(found, number) for number, name in enumerate(columns)}


def mean_of_finite(x: Num[Array, "*shape"], valid: Bool[Array, "*shape"]) -> Mean:
    """The mean of entries that are known to be finite: several quantities over the same ones share one count."""
    return Mean(reduction.total_of_finite(x, valid), reduction.count(valid))


def share(condition: Bool[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Mean:
    """The share of the kept entries for which the condition holds."""
    return Mean(reduction.count(condition & mask), reduction.count(mask))


def minimum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Minimum:
    """The smallest entry."""
    return Minimum(reduction.minimum(x, mask))


def maximum(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Maximum:
    """The largest entry."""
    return Maximum(reduction.maximum(x, mask))


def std(x: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Deviation:
    """The population standard deviation, in two passes."""
    valid = reduction.counted(x, mask)
    count, (distance, near, off) = reduction.count(valid), _distances(x, valid)
    squares = reduction.total_of_finite(jnp.square(distance), valid) - count * off * off
    return Deviation(count, near + off, jnp.maximum(squares, 0.0))


def covariance(x: Num[Array, "*shape"], y: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Covariance:
    """The population covariance over the entries that are finite in both."""
    valid = reduction.counted(x, mask) & jnp.isfinite(y)
    count = reduction.count(valid)
    (dx, near_x, off_x), (dy, near_y, off_y) = _distances(x, valid), _distances(y, valid)
    products = ((dx * dx, off_x * off_x), (dy * dy, off_y * off_y), (dx * dy, off_x * off_y))
    xx, yy, xy = (reduction.total_of_finite(around, valid) - count * of_off for around, of_off in products)
    return Covariance(count, near_x + off_x, near_y + off_y, jnp.maximum(xx, 0.0), jnp.maximum(yy, 0.0), xy)


def correlation(x: Num[Array, "*shape"], y: Num[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Correlation:
    """Pearson's correlation over the entries that are finite in both."""
    return Correlation(*jax.tree.leaves(covariance(x, y, mask)))


def quantiles(
    x: Num[Array, " batch"], mask: Bool[Array, " batch"], q: tuple[float, ...], edges: tuple[float, ...]
) -> list[Quantile]:
    """The quantiles of one number a completion: exact, as `numpy.quantile`, until they are merged."""
    some = jnp.any(reduction.counted(x, mask)).astype(jnp.float32)
    exact = reduction.quantiles(x, mask, q)
    rough = rough_quantiles(x, mask, q, histogram(x, mask, edges))
    return [replace(of, exact=value, sorted_parts=some) for of, value in zip(rough, exact, strict=True)]


def rough_quantiles(
    x: Num[Array, "*shape"], mask: Bool[Array, "*shape"], q: tuple[float, ...], bins: Bins
) -> list[Quantile]:
    """The quantiles of one number a token, from its histogram alone: nothing is sorted."""
    extremes, unknown = (reduction.minimum(x, mask), reduction.maximum(x, mask)), jnp.zeros((), jnp.float32)
    return [Quantile(bins, *extremes, unknown, unknown, each) for each in q]


def _distances(
    x: Num[Array, "*shape"], valid: Bool[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, ""], Float[Array, ""]]:
    """How far each entry is from a number near the mean, that number, and how far the mean is from it; 0 over nothing.

    The mean as it was first added up misses by a rounding error, by which a constant would seem to vary.
    """
    x, count = jnp.asarray(x, jnp.float32), jnp.maximum(reduction.count(valid), 1)
    near = reduction.total_of_finite(x, valid) / count
    return x - near, near, reduction.total_of_finite(x - near, valid) / count


def _pooled(means: Float[Array, "*parts"], counts: Float[Array, "*parts"]) -> Float[Array, "*whole"]:
    return jnp.sum(means * counts, axis=0) / jnp.maximum(jnp.sum(counts, axis=0), 1)


def _varies(
    squares: Float[Array, "*parts"], middle: Float[Array, "*parts"], count: Float[Array, "*parts"]
) -> Bool[Array, "*parts"]:
    """Whether there is more than what rounding leaves of entries that are all equal."""
    return squares > count * jnp.square(1e-6 * middle)


def _if_finite(extreme: Float[Array, "*parts"]) -> Float[Array, "*parts"]:
    return jnp.where(jnp.isfinite(extreme), extreme, jnp.nan)

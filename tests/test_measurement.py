"""A measurement and the statistics that it is finished from: packed, unpacked, merged, and carried through JAX."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.errors import RolloutError
from toolkit.measurement import Column, Measurement, Statistics, merge
from toolkit.metrics.histogram import Bins
from toolkit.metrics.statistic import Maximum, Mean, Statistic, Total
from toolkit.record import Histogram

EDGES = (0.0, 1.0, 2.0, 4.0)


def number(x: float) -> jax.Array:
    """A scalar of JAX."""
    return jnp.asarray(x, jnp.float32)


def part(total: float, count: float, most: float, counts: list[float]) -> Statistics:
    """A statistic of four kinds."""
    return Statistics(
        {
            "z/mean": Mean(number(total), number(count)),
            "a/total": Total(number(total)),
            "m/histogram": Bins(jnp.array(counts, jnp.float32), EDGES),
            "a/max": Maximum(number(most)),
        }
    )


FIRST, SECOND, NOTHING = part(6, 2, 5, [1, 1, 0]), part(3, 1, 3, [0, 0, 1]), part(0, 0, -np.inf, [0, 0, 0])


def assert_whole(statistics: Statistics) -> None:
    """The first part, the second and an empty one make (6 + 3) / 3, 9, max(5, 3) and [1, 1, 1]."""
    values = statistics.finished().values()
    histogram = values.pop("m/histogram")
    assert values == {"z/mean": 3, "a/total": 9, "a/max": 5}
    assert isinstance(histogram, Histogram)
    assert histogram.counts.tolist() == [1, 1, 1]
    assert histogram.edges.tolist() == list(EDGES)


def test_a_vector_is_unpacked_by_its_table() -> None:
    """Numbers are floats of Python, histograms have their counts and edges, and NaN is no value."""
    columns = (Column("a", 1, None), Column("h", 3, EDGES), Column("none", 1, None), Column("b", 1, None))
    values = Measurement(jnp.array([1.5, 2, 0, 3, jnp.nan, -1]), columns).values()
    histogram = values.pop("h")
    assert isinstance(histogram, Histogram)
    assert (histogram.counts.tolist(), histogram.edges.tolist()) == ([2, 0, 3], list(EDGES))
    assert values == {"a": 1.5, "b": -1}
    assert {type(value) for value in values.values()} == {float}


def test_a_measurement_is_one_vector() -> None:
    """One transfer a step: a single float32 leaf, with a static table beside it."""
    measurement = FIRST.finished()
    (vector,) = jax.tree.leaves(measurement)
    assert vector.dtype == jnp.float32
    assert vector.shape == (sum(column.size for column in measurement.columns),) == (6,)
    assert Statistics({}).finished().values() == {}


def test_a_metric_over_nothing_has_no_value() -> None:
    """A mean and an extreme of no entry are left out, a total is 0 and a histogram empty."""
    values = NOTHING.finished().values()
    assert values.keys() == {"a/total", "m/histogram"}
    assert values["a/total"] == 0


def test_a_measurement_passes_through_jit_and_scan() -> None:
    """A step may carry the last one along, and return a stack of them, of which each is one."""

    @jax.jit
    def step(measurement: Measurement) -> tuple[Measurement, Measurement]:
        return jax.lax.scan(lambda carry, _: (carry, carry), measurement, length=2)

    carried, stacked = step(SECOND.finished())
    for returned in (carried, jax.tree.map(lambda leaf: leaf[1], stacked)):
        assert returned.columns == carried.columns
        assert returned.values()["a/total"] == 3


@pytest.mark.parametrize("parts", [(FIRST, SECOND, NOTHING), (NOTHING, SECOND, FIRST)], ids=["forth", "back"])
def test_parts_merge_to_the_whole(parts: tuple[Statistics, ...]) -> None:
    """All at once, one by one, and as a stack; an empty part changes nothing."""
    first, second, third = parts
    assert_whole(merge(*parts))
    assert_whole(merge(merge(first, second), third))
    assert_whole(jax.jit(merge)(first, merge(second, third)))
    assert_whole(jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts).merged())
    assert merge(first) is first


def test_parts_that_differ_are_refused_by_name() -> None:
    """The keys that not all of them have are listed."""
    fewer: Mapping[str, Statistic] = {key: FIRST.by_key[key] for key in ("z/mean", "m/histogram")}
    with pytest.raises(RolloutError, match=r"same fields; not all of them give a/max, a/total$"):
        merge(FIRST, Statistics(fewer))

"""Finished numbers, from the statistics that a metric family returns."""

from collections.abc import Mapping

from jaxtyping import Array

from toolkit.metrics.histogram import Bins
from toolkit.metrics.statistic import Statistic


def values(found: Mapping[str, Statistic]) -> dict[str, Array]:
    """The number of each metric; of a histogram the counts."""
    finished = {key: statistic.value for key, statistic in found.items()}
    return {key: value.counts if isinstance(value, Bins) else value for key, value in finished.items()}

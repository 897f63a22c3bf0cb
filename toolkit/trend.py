"""Moving averages and trends of chosen metrics, added to each record as it passes."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import count
from math import fsum
from operator import mul

from toolkit.record import Record, Value

_LARGEST = 1e300
"""What is larger, and what is no number, is left out: a sum of such values is no number either."""


class Trend:
    """The last `window` values of one metric: their mean and least-squares slope.

    They are summed anew and exactly each time, so that a huge value leaves nothing behind when it goes.
    """

    def __init__(self, window: int) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float) -> None:
        """Take the next value, which must be finite."""
        self._values.append(value)

    @property
    def mean(self) -> float:
        """The mean of the window."""
        return fsum(self._values) / len(self._values)

    @property
    def slope(self) -> float:
        """The least-squares change from one value to the next; 0 for a single value."""
        n = len(self._values)
        if n < 2:
            return 0.0
        places = count((1 - n) / 2)  # from the middle of the window
        return fsum(map(mul, places, self._values)) / (n * (n * n - 1) / 12)


class RewardTrends:
    """A processor that adds `rewards/NAME/{moving_average,trend}` beside each `rewards/NAME/mean`.

    Both are over the last `window` logged steps; the trend is a change per logged step. A record that brings its own
    keeps them.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._trends: dict[str, Trend] = {}

    def __call__(self, record: Record) -> Record:
        """The record with the two values added for each mean it has."""
        if record.stream != "train":
            return record
        added: dict[str, Value] = {}
        for key, value in record.values.items():
            name = key.removesuffix("/mean")
            is_mean = name != key and name.startswith("rewards/")
            if is_mean and isinstance(value, float) and abs(value) < _LARGEST:
                added |= self._update(name, value)
        own = record.values
        return replace(record, values={**own, **{key: added[key] for key in added if key not in own}})

    def _update(self, name: str, value: float) -> dict[str, Value]:
        trend = self._trends.setdefault(name, Trend(self._window))
        trend.add(value)
        return {f"{name}/moving_average": trend.mean, f"{name}/trend": trend.slope}

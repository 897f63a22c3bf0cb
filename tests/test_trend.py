"""Trends over a window, against NumPy's own fit of each window."""

import math

import numpy as np
import pytest

from toolkit.record import Record
from toolkit.trend import RewardTrends, Trend


def record(stream: str = "train", **values: float) -> Record:
    """A row whose keys are written with two underscores for a slash."""
    return Record(stream, 0, 0, 0.0, {key.replace("__", "/"): value for key, value in values.items()})


@pytest.mark.parametrize("window", [1, 2, 7, 100])
def test_mean_and_slope_are_numpys_over_a_sliding_window(window: int) -> None:
    """At every step, while the window fills and after."""
    values = np.random.default_rng(window).normal(2.0, 5.0, 250)
    trend = Trend(window)
    for step, value in enumerate(values):
        trend.add(float(value))
        inside = values[max(0, step + 1 - window) : step + 1]
        slope = np.polyfit(np.arange(len(inside)), inside, 1)[0] if len(inside) > 1 else 0.0
        assert trend.mean == pytest.approx(inside.mean(), rel=1e-9, abs=1e-9)
        assert trend.slope == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_only_rewards_with_a_name_have_a_trend() -> None:
    """Neither a mean of other families nor a key without a name between."""
    found = RewardTrends(3)(record(rewards__mean=1.0, advantages__mean=1.0, rewards__a__b__mean=1.0)).values
    assert {key for key in found if "mean" not in key} == {"rewards/a/b/moving_average", "rewards/a/b/trend"}


def test_slopes_by_hand() -> None:
    """A line has its own slope, and what is constant has none."""
    rising, constant = Trend(5), Trend(5)
    for step in range(20):
        rising.add(3.0 - 0.25 * step)
        constant.add(0.1)
    assert rising.slope == -0.25
    assert rising.mean == 3.0 - 0.25 * 17
    assert constant.slope == 0
    assert constant.mean == pytest.approx(0.1)


@pytest.mark.parametrize("huge", [1e300, -3e38, 1e16])
def test_a_huge_value_is_forgotten_once_it_leaves_the_window(huge: float) -> None:
    """At once, and without a trace in the sums."""
    values = np.random.default_rng(0).normal(size=40)
    values[3] = huge
    trend = Trend(10)
    for step, value in enumerate(values):
        trend.add(float(value))
        if step >= 13:
            inside = values[step - 9 : step + 1]
            assert trend.mean == pytest.approx(inside.mean(), rel=1e-9)
            assert trend.slope == pytest.approx(np.polyfit(np.arange(10), inside, 1)[0], rel=1e-6)


def test_the_processor_adds_both_beside_each_mean() -> None:
    """For every reward and its total, over their own values, and for nothing else."""
    trends = RewardTrends(window=3)
    for a, b in ((1.0, 0.0), (2.0, 0.0), (4.0, 3.0)):
        row = trends(record(rewards__a__mean=a, rewards__total__mean=b, rewards__a__std=9.0, policy__entropy=1.0))
    added = {key: value for key, value in row.values.items() if key.endswith(("moving_average", "trend"))}
    assert added == {
        "rewards/a/moving_average": pytest.approx(7 / 3),
        "rewards/a/trend": 1.5,
        "rewards/total/moving_average": 1.0,
        "rewards/total/trend": 1.5,
    }
    assert row.values["rewards/a/std"] == 9.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped(value: float) -> None:
    """It neither poisons the window nor takes a place in it, and the row is left as it was."""
    trends = RewardTrends(window=5)
    trends(record(rewards__a__mean=1.0))
    assert set(trends(record(rewards__a__mean=value)).values) == {"rewards/a/mean"}
    row = trends(record(rewards__a__mean=3.0))
    assert row.values["rewards/a/moving_average"] == 2.0
    assert row.values["rewards/a/trend"] == 2.0


def test_other_streams_pass_unchanged() -> None:
    """A held-out mean is not one of training."""
    trends, row = RewardTrends(window=5), record("heldout", rewards__a__mean=1.0)
    assert trends(row) is row

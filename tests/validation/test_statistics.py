"""Standard errors and intervals against SciPy, by hand, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from toolkit.validation.statistics import estimate, wilson


def test_one_score_a_prompt_gives_the_usual_standard_error() -> None:
    """Without clusters the clustered error is the standard error of the mean."""
    scores = np.random.default_rng(0).integers(0, 2, 50).astype(float).tolist()
    found = estimate(scores, [str(i) for i in range(50)])
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.se == pytest.approx(stats.sem(scores))
    assert found.n == 50


def test_repeated_scores_of_a_prompt_count_once() -> None:
    """Four equal scores for each prompt are no more sure than one."""
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    prompts = list("abcdef")
    once, four = estimate(scores, prompts), estimate(np.repeat(scores, 4).tolist(), np.repeat(prompts, 4).tolist())
    assert four.mean == pytest.approx(once.mean)
    assert four.se == pytest.approx(once.se)
    assert four.n == 6


@pytest.mark.parametrize(("k", "n"), [(0, 20), (7, 20), (20, 20), (1, 200)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    """The interval equals SciPy's Wilson interval without continuity correction."""
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_right_and_all_wrong_still_leave_room_for_doubt(score: float) -> None:
    """At 0 and at 1 the interval has a width although the standard error is 0."""
    found = estimate([score] * 30, [str(i) for i in range(30)])
    assert found.se == 0
    assert found.high - found.low == pytest.approx(1 - 30 / (30 + 1.959963984540054**2), abs=1e-9)


def test_a_single_prompt_has_no_standard_error() -> None:
    """One prompt cannot say how much prompts differ: the error is NaN, the interval is that of one trial."""
    found = estimate([1.0], ["a"])
    assert math.isnan(found.se)
    assert 0 < found.low < found.high == 1


def test_scores_beyond_one_get_a_symmetric_interval() -> None:
    """A score such as a length is no share: its interval is the mean plus and minus 1.96 errors."""
    found = estimate([10.0, 20.0, 30.0], ["a", "b", "c"])
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert found.high == pytest.approx(20 + 1.959963984540054 * 10 / math.sqrt(3))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Over 2,000 simulated validations with correlated completions, 93 to 97.5 % of the intervals hold the truth."""
    rng = np.random.default_rng(1)
    prompts = np.repeat([f"{i}" for i in range(100)], 4).tolist()
    covered = 0
    for _ in range(2000):
        chance = np.repeat(rng.beta(2.0, 2.0, 100), 4)  # half the completions succeed, prompts differ
        found = estimate((rng.random(400) < chance).astype(float).tolist(), prompts)
        covered += found.low <= 0.5 <= found.high
    assert 0.93 <= covered / 2000 <= 0.975

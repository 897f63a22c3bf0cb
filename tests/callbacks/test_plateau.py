"""Plateaus, by simulation: what is found, how late, and what is not."""

from collections.abc import Iterable

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import linregress

from toolkit.callbacks import Checkpoint, Stop
from toolkit.callbacks.plateau import PlateauRule, rise, student_95
from toolkit.record import Record, Text
from toolkit.settings.callbacks import Plateau

KEY = "rewards/total/mean"
WINDOW = 50


def noise(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    """A stationary autoregressive process of order one with standard deviation 1."""
    fresh = rng.normal(size=count)
    values = fresh.copy()
    for place in range(1, count):
        values[place] = correlation * values[place - 1] + np.sqrt(1 - correlation**2) * fresh[place]
    return values


def found_at(values: Iterable[float], **settings: float) -> int | None:
    """The place of the value at which the rule speaks first."""
    rule = PlateauRule(Plateau(enabled=True, **settings), checkpoint=False)  # type: ignore[arg-type]  # settings by name
    looks = (rule.look(Record("train", step, step, 0.0, {KEY: float(value)})) for step, value in enumerate(values))
    return next((step for step, said in enumerate(looks) if said), None)


@pytest.mark.parametrize("freedom", [2.0, 3.0, 5.5, 10.0, 48.0, 1000.0])
def test_the_quantile_is_students(freedom: float) -> None:
    """Within 0.3 % of SciPy's from two degrees of freedom."""
    assert student_95(freedom) == pytest.approx(stdtrit(freedom, 0.95), rel=3e-3)


def test_without_correlation_the_bound_is_that_of_a_plain_regression() -> None:
    """Slope and error are SciPy's where the residuals turn out not to be correlated."""
    rng = np.random.default_rng(3)
    values = 0.01 * np.arange(40) + rng.permutation([-1.0, 1.0] * 20)
    fit = linregress(np.arange(40), values)
    residuals = values - fit.intercept - fit.slope * np.arange(40)
    assert residuals[1:] @ residuals[:-1] <= 0
    most = (fit.slope + stdtrit(38, 0.95) * fit.stderr) * 39
    assert rise(values.tolist()).most == pytest.approx(most, rel=1e-4)


def test_correlated_noise_widens_the_bound() -> None:
    """The same spread says less of the trend where neighbours are alike, and nothing where all are."""
    rng = np.random.default_rng(0)
    plain, correlated = noise(rng, 200, 0.0), noise(rng, 200, 0.8)
    assert rise((correlated / correlated.std()).tolist()).most > 1.5 * rise((plain / plain.std()).tolist()).most
    assert rise([0.0] * 20 + [1.0] * 20).most > 0.5


def test_a_curve_that_rises_is_never_called_flat() -> None:
    """At three standard deviations a window, in noise of its own or correlated, over 60 runs of 400 values."""
    rng = np.random.default_rng(0)
    line = 3 * np.arange(400) / (WINDOW - 1)
    found = [found_at(line + noise(rng, 400, correlation)) for correlation in (0.0, 0.5) for _ in range(30)]
    assert found == [None] * 60


@pytest.mark.parametrize(("correlation", "usual"), [(0.0, 75), (0.5, 110)])
def test_flat_noise_is_found_soon_after_the_window_is_full(correlation: float, usual: int) -> None:
    """Half of 40 runs within two windows, whatever unit the metric has; all within six."""
    rng = np.random.default_rng(1)
    found = [found_at(1e-4 * noise(rng, 300, correlation) + 7) for _ in range(40)]
    assert all(place is not None for place in found)
    assert np.median([place or 0 for place in found]) <= usual


def test_a_curve_that_levels_off_is_stopped_when_little_is_left() -> None:
    """Of 1 - exp(-t/150) in noise of 0.05 at least five sixths are there in each of 20 runs, which all end."""
    rng = np.random.default_rng(2)
    curve = 1 - np.exp(-np.arange(900) / 150)
    found = [found_at(curve + 0.05 * noise(rng, 900, 0.0)) for _ in range(20)]
    assert all(place is not None and curve[place] > 5 / 6 for place in found)


def test_a_constant_is_flat_and_a_line_is_not() -> None:
    """Also without any noise to compare with; a fall is no rise, unless falling is what is hoped for."""
    assert found_at([0.25] * 100) == WINDOW - 1 + 9
    assert found_at(np.arange(100.0)) is None
    assert found_at(-np.arange(100.0)) == WINDOW - 1 + 9
    assert found_at(-np.arange(100.0), falling=True) is None


def test_all_metrics_that_match_must_be_flat_and_others_do_not_count() -> None:
    """One held-out result that still rises keeps the run alive; a value that is not finite is passed over."""
    settings = Plateau(enabled=True, metrics=("heldout/*/accuracy",), window=10, patience=1)
    rule = PlateauRule(settings, checkpoint=False)
    assert rule.look(Record("train", 0, 0, 0.0, {KEY: 0.5})) is None
    assert rule.look(Record("heldout", 0, 0, 0.0, {"heldout/a/accuracy": float("nan")})) is None
    assert rule.look(Record("heldout", 0, 0, 0.0, {"heldout/a/accuracy": Text("none")})) is None
    for step in range(30):
        row = {"heldout/a/accuracy": 0.5, "heldout/b/accuracy": min(float(step), 15.0)}
        said = rule.look(Record("heldout", step, step, 0.0, {**row, "heldout/a/format": 1.0}))
        assert bool(said) == (step >= 24), step
    assert said is not None
    assert "heldout/a/accuracy, heldout/b/accuracy has not risen" in said


def test_a_metric_that_did_not_come_yet_is_waited_for() -> None:
    """Rewards that are flat end no run before the first held-out results."""
    rule = PlateauRule(Plateau(metrics=(KEY, "heldout/*"), window=10, patience=1), checkpoint=False)
    assert not any(rule.look(Record("train", step, step, 0.0, {KEY: 0.5})) for step in range(30))
    said = [rule.look(Record("heldout", step, step, 0.0, {"heldout/a/accuracy": 0.5})) for step in range(12)]
    assert [bool(text) for text in said] == [False] * 9 + [True] * 3


def test_it_asks_for_a_checkpoint_and_then_for_the_end() -> None:
    """With `stop`, in this order; without it for nothing but what alerts ask for."""
    assert PlateauRule(Plateau(stop=True), checkpoint=False).requests == (Checkpoint, Stop)
    assert PlateauRule(Plateau(), checkpoint=True).requests == (Checkpoint,)
    assert PlateauRule(Plateau(), checkpoint=False).requests == ()

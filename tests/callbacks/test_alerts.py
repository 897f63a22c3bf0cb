"""Alerts: what each rule finds and what it leaves alone, and how a finding reaches people."""

import logging
from collections.abc import Iterable

import numpy as np
import pytest

from toolkit.callbacks import Checkpoint
from toolkit.callbacks.alerts import AlertsCallback, Rule
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.rules import rules
from toolkit.logger import Logger
from toolkit.record import Record, Text
from toolkit.settings.callbacks import Alerts
from toolkit.sinks.memory import MemorySink


def said(key: str, values: Iterable[float]) -> dict[str, int]:
    """The alerts of a series of one metric, with the step of the first of each."""
    first: dict[str, int] = {}
    watched = rules(Alerts(), checkpoint=False)
    for step, value in enumerate(values):
        for rule in watched:
            if rule.look(Record("train", step, step, 0.0, {key: value})):
                first.setdefault(rule.name, step)
    return first


def flat(level: float, count: int = 40) -> list[float]:
    """A level with some noise."""
    return [float(value) for value in level * np.random.default_rng(0).uniform(0.8, 1.2, count)]


HEALTHY: dict[str, tuple[str, Iterable[float]]] = {
    "low entropy from the start": ("policy/entropy", flat(0.02)),
    "entropy that falls to a fifth": ("policy/entropy", [*flat(0.6), *flat(0.12)]),
    "no entropy at all": ("policy/entropy", [0.0] * 40),
    "a KL that grows": ("policy/kl_ref_k3", np.linspace(0.0, 0.5, 300)),
    "a tiny KL that jumps": ("policy/kl_ref_k3", [*flat(1e-6), *flat(1e-2)]),
    "one odd batch": ("policy/kl_ref_k3", [*flat(0.05), 8.0, *flat(0.05)]),
    "a loss at zero": ("trainer/loss", [0.0] * 40),
    "a huge loss": ("trainer/loss", [1e9] * 40),
    "rewards in the hundreds": ("rewards/total/mean", flat(400.0)),
    "negative rewards": ("rewards/total/mean", flat(-3.0)),
    "a format that was never learned": ("format/strict", [*flat(0.1), *flat(0.0)]),
    "a format that is learned": ("format/strict", np.linspace(0.0, 1.0, 100)),
    "few groups alike": ("groups/zero_std_fraction", flat(0.6)),
    "a little clipping": ("policy/clip_high", flat(0.2)),
    "numbers that are none": ("policy/entropy", [float("nan"), float("inf")] * 20),
}
SICK = {
    "entropy_collapse": ("policy/entropy", [*flat(0.5), *flat(0.02)]),
    "kl_explosion": ("policy/kl_ref_k3", [*flat(0.02), *flat(5.0)]),
    "signal_collapse": ("rewards/total/within_std", [*flat(30.0), *flat(0.5)]),
    "format_collapse": ("format/strict", [*flat(0.1), *flat(0.8), *flat(0.2)]),
    "no_signal": ("groups/zero_std_fraction", [*flat(0.3), *([0.97] * 40)]),
    "clipping": ("policy/clip_low", [*flat(0.05), *flat(0.5)]),
    "truncation": ("completions/truncated_fraction", [*flat(0.1), *flat(0.7)]),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_is_healthy_is_left_alone(case: str) -> None:
    """No rule speaks."""
    key, values = HEALTHY[case]
    assert said(key, values) == {}


@pytest.mark.parametrize("name", SICK)
def test_what_is_sick_is_found_within_some_twenty_values(name: str) -> None:
    """By its own rule alone, after the change and not before."""
    key, values = SICK[name]
    (found,) = said(key, values).items()
    change = len(values) - 40
    assert found[0] == name
    assert change < found[1] <= change + 20


def test_two_kinds_of_clipping_add_up() -> None:
    """A fifth of the tokens at each end is over three tenths of all."""
    watched = rules(Alerts(), checkpoint=False)
    row = {"policy/clip_low": 0.2, "policy/clip_high": 0.2}
    found = [rule.name for _ in range(10) for rule in watched if rule.look(Record("train", 0, 0, 0.0, row))]
    assert found == ["clipping"]


def heldout(step: int, low: float, high: float) -> Record:
    """A held-out result, which comes five steps late."""
    key = "heldout/sums/accuracy"
    return Record("heldout", step + 5, step, 0.0, {key: (low + high) / 2, f"{key}_low": low, f"{key}_high": high})


@pytest.mark.parametrize(
    ("rise", "second", "expected"),
    [(2.0, (0.4, 0.5), True), (2.0, (0.5, 0.62), False), (0.0, (0.4, 0.5), False), (2.0, (0.8, 0.9), False)],
    ids=["gamed", "too close to tell", "reward stays", "both rise"],
)
def test_reward_up_and_held_out_down_is_suspicious(rise: float, second: tuple[float, float], expected: bool) -> None:
    """Only when both are beyond doubt; rewards after the policy's step do not count."""
    (rule,) = [rule for rule in rules(Alerts(), checkpoint=False) if rule.name == "reward_hacking"]
    rng = np.random.default_rng(0)
    for step in range(100):
        level = (rise if step >= 50 else 0.0) if step <= 90 else -100.0
        assert rule.look(Record("train", step, step, 0.0, {"rewards/total/mean": level + 0.1 * rng.normal()})) is None
    assert rule.look(heldout(40, 0.6, 0.7)) == ""
    assert bool(rule.look(heldout(90, *second))) == expected


def test_null_switches_a_rule_off() -> None:
    """Each of the thresholds."""
    names = {rule.name for rule in rules(Alerts(), checkpoint=False)}
    assert names == {*SICK, "reward_hacking"}
    off = dict.fromkeys(SICK)
    assert [rule.name for rule in rules(Alerts(**off), checkpoint=False)] == ["reward_hacking"]  # type: ignore[arg-type]  # settings by name
    assert not rules(Alerts(**off, reward_hacking=False), checkpoint=False)  # type: ignore[arg-type]  # settings by name


class Negative:
    """Finds a negative number."""

    name = "negative"
    requests = (Checkpoint,)

    def look(self, record: Record) -> str | None:
        value = record.values.get("x")
        return None if not isinstance(value, float) else "look at x" if value < 0 else ""


class Broken:
    """Raises."""

    name = "broken"
    requests = ()

    def look(self, record: Record) -> str | None:
        raise KeyError("a bug of a rule")


def run(values: Iterable[float], *watched: Rule) -> tuple[MemorySink, Observer]:
    """A run that logs x at each step."""
    alerts, sink = AlertsCallback(watched, clear_after=3), MemorySink()
    observer = Observer(Logger([sink], [alerts]), [alerts])
    with observer:
        for step, value in enumerate(values):
            observer.log(step, {"x": value})
            observer.step(step)
            observer.logger.flush()
    return sink, observer


def test_an_alert_is_said_once_until_it_clears() -> None:
    """At the step of what it is about, again after three values in a row that are well, and in the last row too."""
    sink, _ = run([1, -1, -1, 1, -1, 1, 1, 1, -1, 1, 1, 1, -1], Negative())
    assert sink.series("alert/negative", "system") == [(step, Text("look at x")) for step in (1, 8, 12)]


def test_each_rule_asks_for_a_checkpoint_where_that_is_on() -> None:
    """All of them, and none where `checkpoints.on_alert` is off."""
    for rule in rules(Alerts(), checkpoint=True):
        assert tuple(rule.requests) == (Checkpoint,)
    for rule in rules(Alerts(), checkpoint=False):
        assert tuple(rule.requests) == ()


def test_an_alert_may_ask_for_a_checkpoint() -> None:
    """With the alert as the reason; and people see it in the log."""
    sink, observer = run([-1, 1], Negative())
    assert observer.asks.checkpoint == "negative: look at x"
    assert len(sink.series("asked/checkpoint", "system")) == 1


def test_a_rule_that_raises_costs_neither_the_row_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is named once and left out."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink, _ = run([1, 1, -1], Broken(), Negative())
    assert len(sink.series("x")) == 3
    assert len(sink.series("alert/negative", "system")) == 1
    assert len([line for line in caplog.messages if "alert/broken is watched no longer" in line]) == 1

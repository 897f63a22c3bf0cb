"""The observer: three lines in a loop, whatever goes wrong in them."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.validation.policies import Echo
from toolkit.callbacks import HOOKS, Callback, EndEvent, Source, StepEvent
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.validation import ValidationCallback
from toolkit.logger import Logger
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import Validation
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.heldout import HeldOut
from toolkit.validation.runner import validate
from toolkit.validation.scorers import Correctness

HELDOUT = HeldOut("echo", ["1", "2"], ["1", "0"])


class Recorder:
    """Keeps its events."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self.closed = 0

    def on_step(self, event: StepEvent) -> None:
        self.events.append(event)

    def on_end(self, event: EndEvent) -> None:
        self.closed += 1


class Broken:
    """Raises in every hook."""

    def __getattr__(self, name: str) -> Callable[[object], None]:
        if name not in HOOKS:
            raise AttributeError(name)

        def hook(event: object) -> None:
            raise KeyError(f"a bug of {name}")

        return hook


class Everything:
    """Keeps the kinds of its events."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattr__(self, name: str) -> Callable[[object], None]:
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda event: self.seen.append(f"{name}({type(event).__name__})")


class Waiting(Echo):
    """Answers when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def generate(self, *arguments: Any, **named: Any) -> Any:
        self.may.wait(60)
        return super().generate(*arguments, **named)


def observed(callbacks: Sequence[Callback], every: int = 2) -> tuple[Observer, MemorySink]:
    sink = MemorySink()
    logger = Logger([sink])
    validator = BackgroundValidator(
        lambda policy, step: [validate(policy, HELDOUT, {"accuracy": Correctness()}, policy_step=step)]
    )
    return Observer(logger, callbacks, ValidationCallback(Validation(every=every), validator)), sink


def test_each_step_reaches_every_callback_with_its_time() -> None:
    """The first event has no step time, later ones have it, and all know what the observer cost."""
    recorder = Recorder()
    observer, _ = observed([recorder])
    with observer:
        for step in range(3):
            observer.step(step, values={"loss": 0.5})
    assert [event.step for event in recorder.events] == [0, 1, 2]
    assert recorder.events[0].step_s is None
    assert all(event.step_s is not None and event.step_s > 0 for event in recorder.events[1:])
    assert all(event.overhead_s > 0 for event in recorder.events[1:])
    assert 0 < observer.overhead_fraction <= 1
    assert recorder.closed == 1


def rewarded(source: Source | None) -> object:
    """The rewards that a callback would see."""
    return source and source.later()()[0].rewards["a"]


def test_what_was_given_ahead_is_of_its_step_alone() -> None:
    """The step of that number has it, unless it is given another; the next one does not."""
    recorder = Recorder()
    observer, _ = observed([recorder])
    first, second = Rollout(rewards={"a": [1.0]}), Rollout(rewards={"a": [2.0]})
    with observer:
        observer.ahead(1, first, update=second)
        observer.step(1)
        observer.ahead(2, first, update=second)
        observer.step(2, second)
        observer.ahead(3, first)
        observer.step(4)
        observer.step(3)
        observer.ahead("five", first)  # type: ignore[arg-type]  # the mistake that is tested
    given = [[rewarded(source) for source in (event.rollout, event.update)] for event in recorder.events]
    assert given == [[[1.0], [2.0]], [[2.0], [2.0]], [None, None], [None, None]]
    assert observer.logger.health.bad_values == 1


def test_a_broken_callback_harms_neither_the_loop_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """What any of its hooks raises is logged once, and the callbacks after it are told of everything."""
    whole = Everything()
    observer, _ = observed([Broken(), whole])
    with caplog.at_level(logging.WARNING, logger="toolkit"), observer:
        for step in range(1, 4):
            observer.step(step)
        observer.ahead(4)
        observer.validate(4, Echo())
        observer.saved(4, "out/checkpoint-4")
    assert whole.seen == [
        "on_start(StartEvent)",
        *["on_step(StepEvent)"] * 3,
        "on_rollout(RolloutEvent)",
        "on_submit(SubmitEvent)",
        "on_checkpoint(CheckpointEvent)",
        "on_report(ReportEvent)",
        "on_end(EndEvent)",
    ]
    for hook in HOOKS:
        assert len([message for message in caplog.messages if f"a bug of {hook}" in message]) == 1


def test_a_held_out_result_is_logged_at_the_step_of_its_policy() -> None:
    """The policy of step 2 is validated, the result carries that step, and the step at which it was ready."""
    observer, sink = observed([])
    with observer:
        for step in range(1, 4):
            observer.step(step)
            assert observer.validate(step, Echo()) == (step == 2)
    assert sink.series("heldout/echo/accuracy", "heldout") == [(2, 0.5)]
    ((_, finished),) = sink.series("heldout/echo/finished_step", "heldout")
    assert finished in (2.0, 3.0)


def test_the_last_validation_is_waited_for_at_the_end() -> None:
    """A policy handed in just before the end is validated whatever the schedule says, when asked to."""
    observer, sink = observed([], every=1000)
    with observer:
        assert not observer.validate(7, Echo())
        assert observer.validate(7, Echo(), always=True)
    assert sink.series("heldout/echo/accuracy", "heldout") == [(7, 0.5)]


def test_a_policy_that_was_refused_and_is_another_by_the_end_is_not_validated() -> None:
    """As where the host loads its best weights when training ends."""
    observer, sink = observed([], every=1)
    going_on = Waiting()
    with observer:
        assert observer.validate(1, going_on)
        assert not observer.validate(2, Echo(), always=True)
        observer.step(2)
        observer.forget_policy()
        going_on.may.set()
    assert sink.series("heldout/echo/accuracy", "heldout") == [(1, 0.5)]


def test_a_snapshot_that_fails_is_no_error_of_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A policy that cannot be copied is reported once, and training goes on."""

    class Uncopiable(Echo):
        def snapshot(self) -> "Uncopiable":
            raise RuntimeError("no memory for a copy")

    observer, _ = observed([])
    with caplog.at_level(logging.WARNING, logger="toolkit"), observer:
        assert not observer.validate(0, Uncopiable())
    assert any("no memory for a copy" in message for message in caplog.messages)


def test_without_held_out_data_validate_says_no() -> None:
    """A loop may call validate always; with nothing to validate on it does nothing."""
    with Observer(Logger([]), []) as observer:
        assert not observer.validate(0, Echo())


def test_closing_twice_closes_once() -> None:
    """Close is idempotent, for it also runs when the interpreter ends."""
    recorder = Recorder()
    observer, sink = observed([recorder])
    observer.close()
    observer.close()
    assert recorder.closed == 1
    assert sink.closed


def test_values_of_the_loops_own_go_through() -> None:
    """`log` is the logger's, in any stream."""
    observer, sink = observed([])
    with observer:
        observer.log(3, {"mine": {"value": 1.5}}, stream="own")
    assert sink.series("mine/value", "own") == [(3, 1.5)]

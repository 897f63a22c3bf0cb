"""What callbacks ask of the training, and who reads it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shelf import Shelf
from tests.validation.policies import Echo
from toolkit.agreement import Agreement
from toolkit.callbacks import Callback, Checkpoint, CheckpointEvent, StepEvent, Stop
from toolkit.callbacks.asks import Asks, Request
from toolkit.callbacks.checkpoints import CheckpointCallback
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.validation import ValidationCallback
from toolkit.complaints import Complaints
from toolkit.errors import ConfigError
from toolkit.logger import Logger
from toolkit.record import Text
from toolkit.settings.callbacks import Checkpoints, Validation
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator


class Asking:
    """Asks for something at one step."""

    def __init__(self, step: int, *requests: Request) -> None:
        self.step, self.requests = step, requests

    def on_step(self, event: StepEvent) -> None:
        for request in self.requests if event.step == self.step else ():
            event.ask(request)


class Saved:
    """Keeps what was saved."""

    def __init__(self) -> None:
        self.events: list[CheckpointEvent] = []

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        self.events.append(event)


def observed(*callbacks: Callback, save: Callable[[int, str], Path] | None = None) -> tuple[Observer, MemorySink]:
    sink = MemorySink()
    return Observer(Logger([sink]), callbacks, save=save), sink


def test_nothing_is_asked_at_first() -> None:
    """A loop may look at any time."""
    asks = Asks()
    assert (asks.checkpoint, asks.stop) == (None, None)


def test_another_process_asks_for_the_same() -> None:
    """By way of a text, where there is anything to ask for."""
    asks, others = Asks(), Asks()
    assert asks.as_text() is None
    asks.add(Checkpoint("an alert"))
    asks.add(Stop("a plateau"))
    others.take_in(asks.as_text() or "")
    assert (others.checkpoint, others.stop) == ("an alert", "a plateau")
    asks.clear()
    assert asks.as_text() is None


def test_reasons_are_joined_each_once_and_not_without_end() -> None:
    """The same reason is not said twice; of a hundred reasons a few stay."""
    asks = Asks()
    assert asks.add(Checkpoint("an alert"))
    assert asks.add(Checkpoint("every 5 steps"))
    assert not asks.add(Checkpoint("an alert"))
    assert (asks.checkpoint, asks.stop) == ("an alert; every 5 steps", None)
    assert sum(asks.add(Stop(f"reason {number}")) for number in range(100)) < 10
    asks.checkpoint_done()
    assert asks.checkpoint is None


def test_a_loop_stops_when_a_callback_asks_for_it() -> None:
    """The step at which it was asked is the last, and the log says why."""
    observer, sink = observed(Asking(3, Stop("enough")))
    with observer:
        for step in range(10):
            observer.step(step)
            if observer.asks.stop:
                break
    assert step == 3
    assert sink.series("asked/stop", "system") == [(3, Text("enough"))]


def test_a_host_saves_and_says_so() -> None:
    """Without a `save` the request stands until the host has saved, and callbacks learn what it saved and why."""
    kept = Saved()
    observer, _ = observed(Asking(1, Checkpoint("an alert")), kept)
    with observer:
        observer.step(1)
        observer.step(2)
        assert observer.asks.checkpoint == "an alert"
        observer.saved(2, "out/checkpoint-2")
        assert observer.asks.checkpoint is None
        observer.saved(7, "out/checkpoint-7")
    first, second = kept.events
    assert (first.step, first.why, first.ours) == (2, "an alert", False)
    assert first.path == Path.cwd() / "out" / "checkpoint-2"
    assert second.why == "the host saved it"


def test_with_a_save_the_observer_saves_at_the_same_step(tmp_path: Path) -> None:
    """Once for each request, between two steps; the time of it is not the observer's."""
    asked: list[tuple[int, str]] = []

    def save(step: int, why: str) -> Path:
        asked.append((step, why))
        return tmp_path / str(step)

    kept = Saved()
    observer, _ = observed(Asking(1, Checkpoint("one"), Stop("then stop")), kept, save=save)
    with observer:
        for step in range(3):
            observer.step(step)
            assert observer.asks.checkpoint is None
    assert asked == [(1, "one")]
    assert kept.events[0].ours
    assert kept.events[0].seconds is not None
    assert observer.asks.stop == "then stop"


@pytest.mark.parametrize("given", [None, 5, object()], ids=["raises", "number", "object"])
def test_a_save_that_fails_is_no_error_of_the_loop(given: object, caplog: pytest.LogCaptureFixture) -> None:
    """A saver that raises, or gives no path, is reported and not asked again for the same request."""

    def save(step: int, why: str) -> Path:
        if given is None:
            raise OSError("the disk is full")
        return given  # type: ignore[return-value]  # the mistake that is tested

    kept = Saved()
    observer, _ = observed(Asking(0, Checkpoint("one")), kept, save=save)
    with observer:
        observer.step(0)
        observer.step(1)
    assert kept.events == []
    assert observer.logger.health.bad_values == 1
    assert observer.asks.checkpoint is None


@pytest.mark.parametrize("wrong", [object(), Asking, lambda event: None])
def test_an_object_without_hooks_is_refused(wrong: Callback) -> None:
    """The error says which methods are expected."""
    with pytest.raises(ConfigError, match="on_start, on_rollout, on_step"):
        observed(wrong)


def test_what_is_asked_of_several_processes_holds_when_all_agree() -> None:
    """A step at which the other did not wait long enough costs nothing but a step; then both save, and both stop."""
    shelf = Shelf()
    agreements = [Agreement(shelf, "agreement", index, 2, 0.05, Complaints()) for index in (0, 1)]
    saved: list[tuple[int, str]] = []

    def saver(process: int) -> Callable[[int, str], Path]:
        def save(step: int, why: str) -> Path:
            saved.append((process, f"{step}: {why}"))
            return Path("state")

        return save

    asking = [Asking(1, Checkpoint("an alert")), Asking(3, Stop("a plateau"))]
    first = Observer(Logger([]), asking, save=saver(0), agreement=agreements[0])
    second = Observer(Logger([]), [], save=saver(1), agreement=agreements[1])
    with first, second:
        for step, order in enumerate([(first, second), (second, first), (first, second), (first, second)]):
            for observer in order:
                observer.step(step)
        assert first.agrees
        assert second.agrees
    assert saved == [(0, "2: an alert"), (1, "2: an alert")]
    assert first.asks.stop == second.asks.stop == "a plateau"


def test_of_several_processes_a_policy_is_only_saved_with_its_own_step(tmp_path: Path) -> None:
    """What is validated between two steps has been trained on when all processes save."""
    asked: dict[bool, str | None] = {}
    for at_end in (False, True):
        agreement = Agreement(Shelf(), "agreement", 0, 1, 0.05, Complaints())
        validation = ValidationCallback(Validation(every=1), BackgroundValidator(lambda policy, step: []))
        checkpoints = CheckpointCallback(Checkpoints(enabled=True), tmp_path / "checkpoints")
        with Observer(Logger([]), [checkpoints], validation, agreement=agreement) as observer:
            observer.validate(1, Echo(), at_end_of_step=at_end)
            observer.step(1)
            asked[at_end] = observer.asks.checkpoint
    assert asked == {False: None, True: "its policy is validated"}

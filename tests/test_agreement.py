"""Several processes that agree, as threads of one: what all of them follow, however late one of them comes."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.shelf import Shelf
from toolkit.agreement import Agreement
from toolkit.complaints import Complaints

KEY = "agreement"


class Broken(Shelf):
    """A store that is lost after the start."""

    def awaited(self, key: str, seconds: float) -> str | None:
        return lost()


def lost(*_: Any) -> str:
    raise RuntimeError("Connection was likely closed")


def processes(count: int = 3, wait_s: float = 30.0, shelf: Shelf | None = None) -> list[Agreement]:
    """All processes of a run."""
    shelf = shelf or Shelf()
    return [Agreement(shelf, KEY, index, count, wait_s, Complaints()) for index in range(count)]


def together(*calls: Callable[[], str | None]) -> list[str | None]:
    """What these calls give, each on a thread of its own."""
    found: list[str | None] = [None] * len(calls)

    def run(place: int, call: Callable[[], str | None]) -> None:
        found[place] = call()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def after(step: int, run: list[Agreement], wish: str | None) -> list[str | None]:
    """What each process does after the step, the last one first there."""
    return together(*(lambda one=one: one.settled(step, wish) for one in reversed(run)))


def test_all_follow_the_wish_of_process_0_after_the_same_step() -> None:
    """Those that are first at the end of the step wait for it."""
    run = processes()
    assert after(1, run, None) == [None, None, None]
    assert after(2, run, "save") == ["save", "save", "save"]
    assert after(3, run, None) == [None, None, None]


def test_the_wishes_of_others_do_not_count() -> None:
    """Only process 0 has the metrics of all."""
    first, second = processes(2)
    assert together(lambda: first.settled(1, None), lambda: second.settled(1, "stop")) == [None, None]


@pytest.mark.parametrize("ahead", range(2))
def test_processes_may_be_far_apart(ahead: int) -> None:
    """Whoever is ahead by a hundred steps, all do the same after the same one."""
    run = processes(2)
    wishes = {7: "save", 90: "stop"}
    seen: list[dict[int, str | None]] = [{}, {}]

    after(0, run, None)

    def train(index: int) -> None:
        for step in range(1, 100):
            if index != ahead and step < 4:
                time.sleep(0.01)
            seen[index][step] = run[index].settled(step, wishes.get(step))

    together(*(lambda index=index: train(index) for index in (0, 1)))
    assert seen[0] == seen[1] == {step: wishes.get(step) for step in range(1, 100)}


def test_who_waited_long_enough_decides_that_nothing_is_done() -> None:
    """Process 0, which comes after that, does not act alone: it wishes again after the next step."""
    first, second = processes(2, wait_s=0.05)
    assert second.settled(1, None) is None
    assert first.settled(1, "save") is None
    assert together(lambda: first.settled(2, "save"), lambda: second.settled(2, None)) == ["save", "save"]


def test_a_process_0_that_does_not_come_is_waited_for_less_and_less() -> None:
    """All waits for one that is gone come to 4/3 of the first."""
    _, second = processes(2, wait_s=0.3)
    began = time.monotonic()
    assert [second.settled(step, None) for step in range(50)] == [None] * 50
    assert time.monotonic() - began < 3.0


def test_no_wish_where_a_process_takes_no_part(caplog: pytest.LogCaptureFixture) -> None:
    """It would go on training, and the others wait for it: which process it is, is said once."""
    first = Agreement(Shelf(), KEY, 0, 3, 30.0, Complaints())
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        assert [first.settled(step, "stop") for step in range(3)] == [None] * 3
    assert [record.message.count("process 1, 2 takes no part") for record in caplog.records] == [1]


def test_a_second_call_for_a_step_is_another_one() -> None:
    """What was wished in the first still holds for a process that comes later."""
    first, second = processes(2)
    assert after(0, [first, second], None) == [None] * 2
    assert [first.settled(1, "save"), first.settled(1, None)] == ["save", None]
    assert [second.settled(1, None), second.settled(1, None)] == ["save", None]


def test_no_wish_once_a_process_has_given_up() -> None:
    """It would not hear of it."""
    shelf = Shelf()
    first, second = processes(2, shelf=shelf)
    assert after(0, [first, second], None) == [None] * 2
    shelf.claim = shelf.awaited = lost  # type: ignore[method-assign, assignment]  # the store of this process alone, for one step
    assert second.settled(1, None) is None
    del shelf.claim, shelf.awaited
    assert [first.settled(step, "save") for step in (1, 2)] == [None] * 2


def test_a_training_may_begin_anew() -> None:
    """Its first step may be one that there was already, with a wish."""
    run = processes(2)
    assert after(0, run, None) == [None] * 2
    assert after(1, run, "save") == ["save"] * 2
    assert after(2, run, None) == [None] * 2
    assert after(1, run, None) == [None] * 2


def test_a_store_that_is_lost_costs_the_wishes_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Which is said once, and nothing is raised into the training."""
    _, second = processes(2, shelf=Broken())
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        assert [second.settled(step, None) for step in range(3)] == [None] * 3
    assert [record.message.count("Connection was likely closed") for record in caplog.records] == [1]


def test_the_store_does_not_grow() -> None:
    """Of steps that are long over nothing is left, but for what was wished."""
    shelf = Shelf()
    run = processes(2, shelf=shelf)
    for step in range(5000):
        for one in run:
            one.settled(step, "save" if step == 5 else None)
    assert len(shelf.texts) < 1100

"""What process 0 wants, done by all processes of a run after the same step, however far apart they are.

A process that saved or stopped alone would leave the others in a collective for ever. So each step has a place of its
own in the group's store, which is written once: by process 0 with its wish, or by whoever has waited long enough for
it, with nothing. What stands there holds for all. A wish of process 0 that came too late is one again after the next
step.
"""

from __future__ import annotations

import itertools

from toolkit.errors import ToolkitError
from toolkit.logger import Complaints
from toolkit.processes import process_count, process_index
from toolkit.rendezvous import Store, store
from toolkit.team import Steps

_NOTHING = "-"

_KEPT = 1024
"""Places that stay in the store: more steps than processes can be apart that train together. Some 50 KB."""

_numbers = itertools.count()
"""Observers are made in the same order in all processes of a run, so their number is a name for each."""


class Agreement:
    """One process's part in it, on the training thread; raises nothing.

    Process 0 never waits. The others wait for it at most `wait_s`, and a quarter as long each next time, until it is in
    time again. A wish is only made when all `count` processes take part.
    """

    def __init__(self, found: Store, key: str, index: int, count: int, wait_s: float, complaints: Complaints) -> None:
        self._store = found
        self._key = key
        self._index = index
        self._missing = set(range(1, count))
        self._wait_s = self._patience = wait_s
        self._complaints = complaints
        self._steps = Steps()
        self._empty: list[str] = []
        self._alive = True
        if index:
            found.put(f"{key}/takes_part/{index}", "yes")

    def settled(self, step: int, wish: str | None) -> str | None:
        """The wish of process 0 that all processes follow after this step; None where there is none.

        To be called after every step by every process, whose own `wish` counts in process 0 alone.
        """
        if not self._alive:
            return None
        begun, step = self._steps.order(step)
        place = f"{self._key}/{begun}/{step}"
        try:
            stands = self._heard(place) if self._index else self._said(place, wish)
        except Exception as error:  # whatever the group's library raises, the training goes on
            self._alive = False
            self._complaints.add("what callbacks ask for, from now on", error)
            return None
        return None if stands == _NOTHING else stands

    def _said(self, place: str, wish: str | None) -> str:
        """In process 0: what stands at the place, which is the wish if no other process was tired of waiting."""
        if wish is not None and self._all_take_part():
            return self._store.claim(place, wish)
        self._store.put(place, _NOTHING)  # one that was tired wrote the same
        self._empty.append(place)
        if len(self._empty) > _KEPT:
            self._store.forget(self._empty.pop(0))
        return _NOTHING

    def _heard(self, place: str) -> str:
        """In any other process: what stands at the place, which is nothing if process 0 does not come."""
        text = self._store.awaited(place, self._patience)
        if text is None:
            self._patience /= 4
            return self._store.claim(place, _NOTHING)
        self._patience = self._wait_s
        return text

    def _all_take_part(self) -> bool:
        self._missing = {
            index for index in self._missing if self._store.find(f"{self._key}/takes_part/{index}") is None
        }
        if self._missing:
            listed = ", ".join(map(str, sorted(self._missing)[:5]))
            self._complaints.add(
                "what callbacks ask for",
                ToolkitError(
                    f"process {listed} does not observe: call toolkit.watch or toolkit.observe in all of them"
                ),
            )
        return not self._missing


def agreement(wait_s: float, complaints: Complaints) -> Agreement | None:
    """This process's part in what those of its group do together; None where it is alone."""
    if process_count() == 1 or (found := store()) is None:
        return None
    key = f"toolkit/agreement/{next(_numbers)}"
    try:
        return Agreement(found, key, process_index(), process_count(), wait_s, complaints)
    except Exception as error:  # whatever the group's store refuses: then nothing is asked of any process
        complaints.add("what callbacks ask for", error)
        return None

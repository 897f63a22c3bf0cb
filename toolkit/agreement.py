"""What process 0 wants, done by all processes of a run after the same step, however far apart they are.

A process that saved or stopped alone would leave the others in a collective for ever. So each step has a place of its
own in the group's store, which is written once: by process 0 with its wish, or by whoever has waited long enough for
it, with nothing. What stands there holds for all. A wish of process 0 that came too late is one again after the next
step.
"""

from __future__ import annotations

import itertools
from contextlib import suppress

from toolkit.complaints import Complaints
from toolkit.errors import ToolkitError
from toolkit.processes import process_count, process_index
from toolkit.rendezvous import Store, store

_NOTHING = "-"
_YES, _NO = "yes", "no"

_KEPT = 1024
"""Places that stay in the store: more steps than processes can be apart that train together. Some 50 KB."""

_numbers = itertools.count()
"""Observers are made in the same order in all processes of a run, so their number is a name for each."""


class Agreement:
    """One process's part in it, on the training thread; raises nothing.

    Process 0 never waits. The others wait for it at most `wait_s`, and a quarter as long each next time, until it is in
    time again. A wish is only made when all `count` processes take part: when they have ended a step before.
    """

    def __init__(self, found: Store, key: str, index: int, count: int, wait_s: float, complaints: Complaints) -> None:
        self._store = found
        self._key = key
        self._index = index
        self._others = range(1, count)
        self._wait_s = self._patience = wait_s
        self._complaints = complaints
        self._begun, self._last = 0, -1
        self._empty: list[str] = []
        self._takes_part = self._refused = False
        self._alive = True

    def settled(self, step: int, wish: str | None) -> str | None:
        """The wish of process 0 that all processes follow after this step; None where there is none.

        To be called after every step by every process, whose own `wish` counts in process 0 alone.
        """
        if not self._alive:
            return None
        self._begun += step <= self._last  # a training that begins again, or a second call for a step
        self._last = step
        place = f"{self._key}/{self._begun}/{step}"
        try:
            stands = self._heard(place) if self._index else self._said(place, wish)
        except Exception as error:  # whatever the group's library raises, the training goes on
            self._give_up(error)
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
        if not self._takes_part:
            self._store.put(self._place_of(self._index), _YES)
            self._takes_part = True
        text = self._store.awaited(place, self._patience)
        if text is None:
            self._patience /= 4
            return self._store.claim(place, _NOTHING)
        self._patience = self._wait_s
        return text

    def _all_take_part(self) -> bool:
        missing = [index for index in self._others if self._store.find(self._place_of(index)) != _YES]
        if missing and self._refused:  # in the first steps one may only be late
            listed = ", ".join(map(str, missing[:5]))
            self._complaints.add("what callbacks ask for", ToolkitError(_REMEDY.format(listed)))
        self._refused = bool(missing)
        return not missing

    def _give_up(self, error: Exception) -> None:
        self._alive = False
        self._complaints.add("what callbacks ask for, from now on", error)
        if self._takes_part:
            with suppress(Exception):  # the store may be gone altogether
                self._store.put(self._place_of(self._index), _NO)

    def _place_of(self, index: int) -> str:
        return f"{self._key}/takes_part/{index}"


_REMEDY = (
    "process {} takes no part: call toolkit.watch or toolkit.observe in all processes, with the same configuration and "
    "callbacks, and observer.step after every step"
)


def agreement(wanted: bool, wait_s: float, complaints: Complaints) -> Agreement | None:
    """This process's part in what those of its group do together; None where it is alone, or it is not `wanted`."""
    number = next(_numbers)
    if not wanted or process_count() == 1 or (found := store()) is None:
        return None
    return Agreement(found, f"toolkit/agreement/{number}", process_index(), process_count(), wait_s, complaints)

"""A lane: one sink on a thread of its own, behind a guard, so that no trouble of one sink reaches another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeAlias

from toolkit.own_log import log as _log
from toolkit.record import Record
from toolkit.sinks import Sink

_FAILURES_IN_A_ROW = 3
_RETRY_S = 30.0
_PATIENCE_S = 0.5

_Burst: TypeAlias = tuple[Sequence[Record], threading.Event]


class Turns:
    """Lets one of several threads work at a time. Whoever has waited for its turn for a moment works beside the other.

    Several sinks that work at once would make the training thread wait for the interpreter longer.
    """

    def __init__(self) -> None:
        self._taken = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """The block is this thread's turn."""
        taken = self._taken
        if not taken.acquire(timeout=_PATIENCE_S):
            # Whoever has the other lock is slow, or hangs for ever. This one is shown when it is taken already.
            taken = threading.Lock()
            taken.acquire()
            self._taken = taken
        try:
            yield
        finally:
            taken.release()


class Lane:
    """Hands records to its sink, in order: all that wait at once, where there are `turns` when it has its turn.

    What fails together is tried again record by record. A sink that failed at three records in a row is left out, and
    tried again every half minute. One that is slow has its own backlog, of at most `capacity` records; nobody waits for
    it. What a sink missed is counted in `missed`, and named once.
    """

    def __init__(self, sink: Sink, capacity: int, turns: Turns | None = None) -> None:
        self.name: str = getattr(sink, "name", type(sink).__name__)
        self.missed = 0
        self._sink = sink
        self._capacity = capacity
        self._turns = turns
        self._given = 0
        self._begun = 0
        self._taken = 0
        self._failures_in_a_row = 0
        self._next_try = 0.0
        self._overrun = False
        self._queue: queue.SimpleQueue[_Burst | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"toolkit-{self.name}", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> int:
        """How many records wait for the sink, or are in its hands."""
        return self._given - self._taken

    def give(self, records: Sequence[Record]) -> None:
        """Pass a burst on; a sink that is so far behind that it has no room for it misses it."""
        waiting = self._given - self._begun
        if waiting and waiting + len(records) > self._capacity:
            self._overran(len(records))
            return
        self._given += len(records)
        self._put(records)

    def mark(self) -> threading.Event:
        """An event that is set when the sink is through with everything given so far."""
        return self._put(())

    def close(self) -> None:
        """Let the sink close when it is through; does not wait for that."""
        self._queue.put(None)

    @property
    def ended(self) -> bool:
        """Whether the sink was closed."""
        return not self._thread.is_alive()

    def _put(self, records: Sequence[Record]) -> threading.Event:
        done = threading.Event()
        self._queue.put((records, done))
        return done

    def _overran(self, count: int) -> None:
        self.missed += count
        if not self._overrun:
            self._overrun = True
            said = "%s is too slow or hangs: %d rows wait for it, and what comes now it will not get. %s"
            _log.error(said, self.name, self.behind, _REMEDY)

    def _work(self) -> None:
        ends = False
        while not ends:
            bursts = [self._queue.get()]
            with self._turns.one() if self._turns else nullcontext():
                # A sink whose writes have a price of their own keeps up like this.
                bursts += [self._queue.get() for _ in range(self._queue.qsize())]
                ends = bursts[-1] is None
                self._write_all([burst for burst in bursts if burst is not None])
        try:
            self._sink.close()
        except Exception as error:  # a backend may raise anything
            self.missed += 1
            _log.error("%s did not close: %r", self.name, error)

    def _write_all(self, bursts: Sequence[_Burst]) -> None:
        records = [record for burst, _ in bursts for record in burst]
        self._begun += len(records)
        if records:
            self._write(records)
        self._taken += len(records)
        for _, done in bursts:
            done.set()

    def _write(self, records: Sequence[Record]) -> None:
        if self._left_out and time.monotonic() < self._next_try:
            self.missed += len(records)
        elif self._attempt(records) is None:
            self._succeeded()
        else:
            for record in records:
                self._write_again(record)

    def _write_again(self, record: Record) -> None:
        if self._left_out and time.monotonic() < self._next_try:
            self.missed += 1
            return
        error = self._attempt([record])
        if error is None:
            self._succeeded()
        else:
            self._failed(error)

    @property
    def _left_out(self) -> bool:
        return self._failures_in_a_row >= _FAILURES_IN_A_ROW

    def _succeeded(self) -> None:
        if self._left_out:
            _log.warning("%s is back; it missed %d rows so far. %s", self.name, self.missed, _REMEDY)
        self._failures_in_a_row = 0

    def _failed(self, error: Exception) -> None:
        self.missed += 1
        self._failures_in_a_row += 1
        self._next_try = time.monotonic() + _RETRY_S
        if self._failures_in_a_row == _FAILURES_IN_A_ROW:
            said = "%s failed at %d rows in a row, is left out and tried again every %g s: %r"
            _log.error(said, self.name, self._failures_in_a_row, _RETRY_S, error)

    def _attempt(self, records: Sequence[Record]) -> Exception | None:
        try:
            self._sink.write(records)
        except Exception as error:  # a backend may raise anything, and must not harm the others
            return error
        return None


def give_all(lanes: Sequence[Lane], records: Sequence[Record]) -> None:
    """Pass a burst on to each lane, if there is something in it."""
    if records:
        for lane in lanes:
            lane.give(records)


_REMEDY = "The run's journal has them: `toolkit export` rebuilds the view."

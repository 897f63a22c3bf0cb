"""The shared logger: a bounded queue, a worker thread that makes records of rows, and a lane for each sink."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from toolkit import shutdown
from toolkit.complaints import Complaints
from toolkit.cores import use_one_core
from toolkit.lane import Lane, Turns, give_all
from toolkit.names import valid_name
from toolkit.own_log import log as _log
from toolkit.record import Record
from toolkit.sinks import Sink
from toolkit.values import Values, host_values, unchanging

# Stream, step, policy step, time and values: made on the training thread, where a plain tuple is the cheapest.
_Row: TypeAlias = tuple[str, int, int, float, Values]
_Work: TypeAlias = Callable[[], object]
Processor: TypeAlias = Callable[[Record], Record | None]

_AHEAD_S = 0.003
"""How long the training thread may take from `ahead` until it leaves the interpreter: some small operations."""

_MANY = 1000
"""So many records go on at once, also when it is not yet time."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the logger itself went through: rows waiting, rows dropped, rows a sink missed, values it could not read."""

    queue_depth: int
    dropped: int
    sink_failures: int
    bad_values: int


@dataclass(slots=True)
class _Flush:
    """A caller that waits: `reached` is set when the rows before it are with the lanes, and `marks` say the rest.

    Where it came `too_late` there are no marks: all is written when the logger has ended.
    """

    reached: threading.Event = field(default_factory=threading.Event)
    marks: list[threading.Event] = field(default_factory=list)
    too_late: bool = False


class Logger:
    """Takes rows from any thread and hands them to its sinks in order, on threads of its own.

    `log` never blocks and never raises; when more than `capacity` rows wait, new ones are dropped and counted. What
    was logged before `close` is written before it returns, within its timeout; an interpreter exit and SIGTERM close
    it too. A sink that raises, is slow or hangs has a lane of its own, and the others go on. The worker gathers rows
    for `burst_s` seconds before it works: short bursts of Python leave the training thread the interpreter, where a
    steady trickle would make each of its calls wait. The journal and the text logs get each burst at once, the other
    sinks, which are views, after `views_s` seconds, or when the training thread leaves the interpreter to us anyway.

    A forked child has none of these threads: its copy of the logger takes nothing, and leaves the run to the parent.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        processors: Sequence[Processor] = (),
        *,
        capacity: int = 10_000,
        burst_s: float = 0.05,
        views_s: float = 1.0,
        close_s: float = 30.0,
    ) -> None:
        turns = Turns()
        self._prompt = [Lane(sink, capacity) for sink in sinks if getattr(sink, "prompt", False)]
        self._views = [Lane(sink, capacity, turns) for sink in sinks if not getattr(sink, "prompt", False)]
        self._lanes = [*self._prompt, *self._views]
        self._for_views: list[Record] = []
        self._views_due = 0.0
        self._most_held = min(_MANY, capacity // 2)
        self._processors = tuple(processors)
        self._capacity = capacity
        self._burst_s = burst_s
        self._views_s = views_s
        self._close_s = close_s
        self._queue: queue.SimpleQueue[_Row | _Work | _Flush] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._closing = False
        self._worker_is_done = False
        self._forked = False
        self._dropped = 0
        self.complaints = Complaints()
        self._worker = threading.Thread(target=self._work, name="toolkit-logger", daemon=True)
        self._worker.start()
        atexit.register(self.close)
        shutdown.on_sigterm(self.close)
        _loggers.add(self)

    def log(
        self,
        step: int,
        values: Values,
        *,
        stream: str = "train",
        policy_step: int | None = None,
        at: float | None = None,
    ) -> None:
        """Queue one row: `values` by key, or a function that returns them and is called on the worker thread.

        Nested mappings become keys with slashes. A number may be Python's, NumPy's, JAX's or torch's: what can change
        in place is copied here, and the worker fetches it. `policy_step` is the step of the policy that was measured,
        if that is not `step`; `at` is when it was, in seconds since the epoch, if that is not now.
        """
        if self._closing or self._queue.qsize() >= self._capacity:
            self._drop()
            return
        try:
            step = int(step)
            held = values if callable(values) else unchanging(values)
        except Exception as error:  # anything can be passed here, and nothing may be raised into the training
            self.complaints.add(f"values logged at step {step}", error)
            return
        policy_step = step if policy_step is None else policy_step
        self._queue.put((stream, step, policy_step, time.time() if at is None else at, held))
        if self._worker_is_done:  # it closed since this row was let in
            self._drop_the_rest()

    def ahead(self, work: Callable[[], object]) -> None:
        """Have the worker do now what a row that is still to come will need, so that the row costs less later.

        For moments when the training thread leaves the interpreter to the others. A queue that is full takes no work.
        """
        if not self._closing and self._queue.qsize() < self._capacity:
            self._queue.put(work)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything logged so far is written; False when `timeout_s` was too short for it."""
        if self._ended:
            return self._queue.empty()
        deadline = time.monotonic() + timeout_s
        flush = _Flush()
        self._queue.put(flush)
        self._hurry.set()
        if self._worker_is_done:
            self._drop_the_rest()
        if not flush.reached.wait(timeout_s):
            return False
        if flush.too_late:
            return self._ends_by(deadline)
        return all(mark.wait(max(0.0, deadline - time.monotonic())) for mark in flush.marks)

    def close(self) -> None:
        """Write what was logged, close the sinks and end the threads. Idempotent; waits at most `close_s` seconds.

        An interrupt while it waits loses nothing: the guards at exit and at SIGTERM stand until it is through.
        """
        if not self._closing:
            self._closing = True
            self._queue.put(_Flush())
            self._hurry.set()
        ended = self._ends_by(time.monotonic() + self._close_s)
        atexit.unregister(self.close)
        shutdown.forget(self.close)
        if not ended:
            self._say_what_is_open()

    @property
    def _ended(self) -> bool:
        return self._forked or (not self._worker.is_alive() and all(lane.ended for lane in self._lanes))

    def _ends_by(self, deadline: float) -> bool:
        # Not Thread.join, which must not be entered again from a signal handler, nor after an interrupt ended it.
        while not self._ended and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._ended

    def _say_what_is_open(self) -> None:
        waiting = max(0, self._queue.qsize() - 1)  # one of them is the call of close
        held = dict.fromkeys(self._views, len(self._for_views))
        rows = {lane: lane.behind + held.get(lane, 0) + waiting for lane in self._lanes if not lane.ended}
        open_lanes = [f"{lane.name}: {count} rows" for lane, count in rows.items()]
        _log.error("not everything was written in %g s: %s", self._close_s, ", ".join(open_lanes))

    def _leave_to_parent(self) -> None:
        # A lock of the queue may be held for ever by a thread that is not here.
        self._queue = queue.SimpleQueue()
        self._closing = self._forked = True

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped == 1:
            closed = "this process was forked from the one that logs" if self._forked else "the logger is closed"
            reason = closed if self._closing else f"{self._capacity} rows wait already"
            _log.warning("rows are dropped from now on, and counted: %s", reason)

    def _drop_the_rest(self) -> None:
        with suppress(queue.Empty):
            while True:
                entry = self._queue.get_nowait()
                if isinstance(entry, tuple):
                    self._drop()
                elif isinstance(entry, _Flush):
                    entry.too_late = True
                    entry.reached.set()

    @property
    def health(self) -> Health:
        """The counters of this moment."""
        missed = sum(lane.missed for lane in self._lanes)
        return Health(self._queue.qsize(), self._dropped, missed, self.complaints.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while not (self._closing and self._queue.empty()):
            waiting = self._gathered()
            self._do(use_one_core)
            for burst in self._bursts(waiting):
                self._give(burst)
                if len(self._for_views) > self._most_held or time.monotonic() >= self._views_due:
                    self._give_views()
            flushes = [entry for entry in waiting if isinstance(entry, _Flush)]
            if flushes or (waiting and callable(waiting[0])):  # the latter: nobody waits for the interpreter now
                self._give_views()
            for flush in flushes:
                flush.marks.extend(lane.mark() for lane in self._lanes)
                flush.reached.set()
        self._worker_is_done = True
        self._drop_the_rest()
        self._give_views()  # what another thread logged while `close` was called
        for lane in self._lanes:
            lane.close()

    def _gathered(self) -> list[_Row | _Work | _Flush]:
        """What waits, with what comes in the next moment; nothing when the views are due before anything comes."""
        try:
            first = self._queue.get(timeout=max(0.0, self._views_due - time.monotonic()) if self._for_views else None)
        except queue.Empty:
            return []
        if not self._closing:
            self._hurry.wait(_AHEAD_S if callable(first) else self._burst_s)
        self._hurry.clear()
        return [first, *(self._queue.get() for _ in range(self._queue.qsize()))]

    def _bursts(self, waiting: Sequence[_Row | _Work | _Flush]) -> Iterator[list[Record]]:
        """The records of the rows; where they take long or are many, those that are ready are not kept back."""
        burst: list[Record] = []
        began = time.monotonic()
        for entry in waiting:
            if isinstance(entry, tuple):
                record = self._record(entry)
                if record is not None:
                    burst.append(record)
            elif not isinstance(entry, _Flush):
                self._do(entry)
            if len(burst) >= _MANY or time.monotonic() - began > self._burst_s:
                yield burst
                burst, began = [], time.monotonic()
        yield burst

    def _give(self, burst: Sequence[Record]) -> None:
        give_all(self._prompt, burst)
        if not self._for_views:
            self._views_due = time.monotonic() + self._views_s - self._burst_s  # which they waited already
        if self._views:
            self._for_views.extend(burst)

    def _give_views(self) -> None:
        held, self._for_views = self._for_views, []
        give_all(self._views, held)

    def _do(self, work: _Work) -> None:
        try:
            work()
        except Exception as error:  # it may be anyone's; the thread must go on
            self.complaints.add("work ahead of a row", error)

    def _record(self, row: _Row) -> Record | None:
        """The row with host values, after the processors; None when it came to nothing."""
        stream, step, policy_step, at, values = row
        try:
            host = host_values(values() if callable(values) else values, self.complaints)
            record: Record | None = Record(valid_name(stream), step, policy_step, at, host)
            for process in self._processors:
                if record is not None:
                    record = process(record)
        except Exception as error:  # a user's function or processor may raise anything; the thread must go on
            self.complaints.add(f"the {stream} row of step {step}", error)
            return None
        return record


_loggers: weakref.WeakSet[Logger] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for logger in _loggers:
        logger._leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)

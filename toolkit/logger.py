"""The shared logger: a bounded queue, one worker thread, and the sinks that only this thread touches."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from toolkit import shutdown
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks import Sink

Values: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
Processor: TypeAlias = Callable[[Record], Record | None]

_log = logging.getLogger("toolkit")
_FAILURES_IN_A_ROW = 3
_RETRY_S = 30.0
_VALUES = (Histogram, Table, Text, Image, Video, Artifact, HParams)


@dataclass(frozen=True, slots=True)
class Health:
    """What the logger itself went through: rows waiting, rows dropped, failed writes, values it could not read."""

    queue_depth: int
    dropped: int
    sink_failures: int
    bad_values: int


@dataclass(frozen=True, slots=True)
class _Row:
    stream: str
    step: int
    policy_step: int
    time: float
    values: Values


class Logger:
    """Takes rows from any thread and hands them to its sinks in order, on a thread of its own.

    `log` never blocks and never raises; when more than `capacity` rows wait, new ones are dropped and counted. What
    was logged before `close` is written before it returns, within its timeout; an interpreter exit and SIGTERM close
    it too. A sink that raises is tried once more. After it failed so at three rows in a row it is left out, and tried
    again every half minute, while the others go on. The worker gathers rows for `burst_s` seconds before it works:
    short bursts of Python leave the training thread the interpreter, where a steady trickle would make each of its
    calls wait.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        processors: Sequence[Processor] = (),
        *,
        capacity: int = 10_000,
        burst_s: float = 0.1,
        close_s: float = 30.0,
    ) -> None:
        self._outlets = [_Outlet(sink) for sink in sinks]
        self._processors = tuple(processors)
        self._capacity = capacity
        self._burst_s = burst_s
        self._close_s = close_s
        self._queue: queue.SimpleQueue[_Row | threading.Event] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._closing = False
        self._dropped = 0
        self._ended = False
        self.complaints = Complaints()
        self._worker = threading.Thread(target=self._work, name="toolkit-logger", daemon=True)
        self._worker.start()
        atexit.register(self.close)
        shutdown.on_sigterm(self.close)

    def log(self, step: int, values: Values, *, stream: str = "train", policy_step: int | None = None) -> None:
        """Queue one row: `values` by key, or a function that returns them and is called on the worker thread.

        Nested mappings become keys with slashes. A number may be Python's, NumPy's, JAX's or torch's: what can change
        in place is copied here, and the worker fetches it. `policy_step` is the step of the policy that was measured,
        if that is not `step`.
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
        self._queue.put(_Row(stream, step, step if policy_step is None else policy_step, time.time(), held))

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything logged so far is written; False when `timeout_s` was too short for it."""
        if self._ended:
            return self._queue.empty()
        reached = threading.Event()
        self._queue.put(reached)
        self._hurry.set()
        return reached.wait(timeout_s)

    def close(self) -> None:
        """Write what was logged, close the sinks and end the thread. Idempotent; waits at most `close_s` seconds.

        An interrupt while it waits loses nothing: the guards at exit and at SIGTERM stand until it is through.
        """
        if not self._closing:
            self._closing = True
            self._queue.put(threading.Event())
            self._hurry.set()
        deadline = time.monotonic() + self._close_s
        # Not Thread.join, which must not be entered again from a signal handler, nor after an interrupt ended it.
        while not self._ended and time.monotonic() < deadline:
            time.sleep(0.002)
        atexit.unregister(self.close)
        shutdown.forget(self.close)
        if not self._ended:
            _log.error("a sink did not finish in %g s: %d rows are not written", self._close_s, self._queue.qsize())

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped == 1:
            reason = "the logger is closed" if self._closing else f"{self._capacity} rows wait already"
            _log.warning("rows are dropped from now on, and counted: %s", reason)

    @property
    def health(self) -> Health:
        """The counters of this moment."""
        failures = sum(outlet.failures for outlet in self._outlets)
        return Health(self._queue.qsize(), self._dropped, failures, self.complaints.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while not (self._closing and self._queue.empty()):
            waiting = self._queue.get()
            self._hurry.wait(self._burst_s)
            self._hurry.clear()
            self._deliver(waiting)
            for _ in range(self._queue.qsize()):
                self._deliver(self._queue.get())
        for outlet in self._outlets:
            outlet.close()
        self._ended = True

    def _deliver(self, waiting: _Row | threading.Event) -> None:
        if isinstance(waiting, threading.Event):
            waiting.set()
            return
        record = self._record(waiting)
        if record is not None:
            for outlet in self._outlets:
                outlet.write(record)

    def _record(self, row: _Row) -> Record | None:
        """The row with host values, after the processors; None when it came to nothing."""
        try:
            values = row.values() if callable(row.values) else row.values
            record: Record | None = Record(row.stream, row.step, row.policy_step, row.time, self._host_values(values))
            for process in self._processors:
                if record is not None:
                    record = process(record)
        except Exception as error:  # a user's function or processor may raise anything; the thread must go on
            self.complaints.add(f"the {row.stream} row of step {row.step}", error)
            return None
        return record

    def _host_values(self, values: Mapping[str, Any]) -> dict[str, Value]:
        host: dict[str, Value] = {}
        for key, value in _flat(values):
            try:
                host[key] = _host_value(value)
            except Exception as error:  # a foreign object's conversion may raise anything
                self.complaints.add(f"the value of {key!r}", error)
        return host


class Complaints:
    """Says each kind of trouble once and counts all of it: a log that repeats itself hides what is new."""

    def __init__(self) -> None:
        self.count = 0
        self._said: set[tuple[type[BaseException], str]] = set()

    def add(self, what: str, error: BaseException) -> None:
        """Count the trouble, and log it if none like it was logged before."""
        self.count += 1
        kind = (type(error), str(error))
        if kind not in self._said and len(self._said) < 100:
            self._said.add(kind)
            _log.warning("left out %s: %s: %s", what, type(error).__name__, error)


class _Outlet:
    """A sink and its guard: a circuit breaker."""

    def __init__(self, sink: Sink) -> None:
        self.failures = 0
        self._sink = sink
        self._name = getattr(sink, "name", type(sink).__name__)
        self._in_a_row = 0
        self._next_try = 0.0

    def write(self, record: Record) -> None:
        left_out = self._in_a_row >= _FAILURES_IN_A_ROW
        if left_out and time.monotonic() < self._next_try:
            self.failures += 1
            return
        error = self._attempt(record) and self._attempt(record)
        if error is not None:
            self._failed(error)
            return
        if left_out:
            _log.warning("%s is back; it missed %d rows so far", self._name, self.failures)
        self._in_a_row = 0

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._in_a_row += 1
        self._next_try = time.monotonic() + _RETRY_S
        if self._in_a_row == _FAILURES_IN_A_ROW:
            said = "%s failed at %d rows in a row, is left out and tried again every %g s: %r"
            _log.error(said, self._name, self._in_a_row, _RETRY_S, error)

    def _attempt(self, record: Record) -> Exception | None:
        try:
            self._sink.write([record])
        except Exception as error:  # a backend may raise anything, and must not harm the others
            return error
        return None

    def close(self) -> None:
        try:
            self._sink.close()
        except Exception as error:  # as above
            self.failures += 1
            _log.error("%s did not close: %r", self._name, error)


def unchanging(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the mapping, and of whatever in it could still change in place before the worker reads it."""
    return {key: value if type(value) is float else _copy(value) for key, value in values.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return unchanging(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.detach().clone() if hasattr(value, "detach") else value  # torch, which is not imported for this


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def _host_value(value: Any) -> Value:
    if type(value) is float or isinstance(value, _VALUES):
        return value
    return Text(value) if isinstance(value, str) else float(value)

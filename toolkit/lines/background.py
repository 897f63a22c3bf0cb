"""`Background`: what is put in is worked off in batches, in order, on a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from toolkit.complaints import Complaints

T = TypeVar("T")


class Background(Generic[T]):
    """Calls `work` with what was put in since the last time: after `every_s` seconds, or once `batch` items wait.

    `put` never blocks and may be called from any thread and from a signal handler. Over `capacity` waiting items new
    ones are `dropped`, which is counted and said once. What `work` raises costs that batch and is said once. A process
    forked from this one has no such thread, and there nothing is taken.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[T]], None],
        *,
        batch: int = 1000,
        every_s: float = 0.1,
        capacity: int = 100_000,
    ) -> None:
        self.dropped = 0
        self.complaints = Complaints()
        self._name = name
        self._work = work
        self._batch = batch
        self._every_s = every_s
        self._capacity = capacity
        self._pid = os.getpid()
        # Simple queues take no lock that a signal handler could find held by the code it interrupted.
        self._items: queue.SimpleQueue[T | threading.Event] = queue.SimpleQueue()
        self._hurry: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closing = self._ended = False
        threading.Thread(target=self._run, name=f"toolkit-{name}", daemon=True).start()

    def put(self, item: T) -> None:
        """Take the item, or count it as dropped."""
        waiting = self._items.qsize()
        if self._closing or waiting >= self._capacity or os.getpid() != self._pid:
            self._drop(waiting)
            return
        self._items.put(item)
        if waiting + 1 == self._batch:
            self._hurry.put(None)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything put in so far is worked off; False when `timeout_s` was too short for it."""
        if self._ended or os.getpid() != self._pid:
            return True
        reached = threading.Event()
        self._items.put(reached)
        self._hurry.put(None)
        return reached.wait(timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Work off what waits and end the thread; False when `timeout_s` was too short for it. Idempotent."""
        if os.getpid() != self._pid:
            return True
        if not self._closing:
            self._closing = True
            self._items.put(threading.Event())
            self._hurry.put(None)
        deadline = time.monotonic() + timeout_s
        # Not Thread.join, which must not be entered again from a signal handler.
        while not self._ended and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._ended

    def _drop(self, waiting: int) -> None:
        self.dropped += 1
        if waiting >= self._capacity:
            self.complaints.add(f"what {self._name} is given", OverflowError(f"{self._capacity} items wait already"))

    def _run(self) -> None:
        while not (self._closing and self._items.empty()):
            waiting = [self._items.get()]
            with suppress(queue.Empty):
                self._hurry.get(timeout=self._every_s)
            waiting += [self._items.get() for _ in range(self._items.qsize())]
            self._deliver(waiting)
        self._ended = True

    def _deliver(self, waiting: Sequence[T | threading.Event]) -> None:
        items = [item for item in waiting if not isinstance(item, threading.Event)]
        try:
            if items:
                self._work(items)
        except Exception as error:  # whatever the work raises, the thread must go on
            self.complaints.add(f"{len(items)} items of {self._name}", error)
        for item in waiting:
            if isinstance(item, threading.Event):
                item.set()

"""`Observer`: what a training loop or a host adapter talks to. It never waits, and never raises into the training."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.callbacks import Callback, Source, StepEvent
from toolkit.callbacks.validation import ValidationCallback
from toolkit.logger import Logger
from toolkit.rollout import Rollout
from toolkit.validation.policy import Policy


class Observer:
    """Hands each step to the callbacks, keeps the time, and closes everything at the end; a context manager.

    All methods belong to the training thread. What a callback raises is logged once and counted. `log_dir` is the
    run's directory.
    """

    def __init__(
        self,
        logger: Logger,
        callbacks: Sequence[Callback],
        validation: ValidationCallback | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.logger = logger
        self.log_dir = log_dir
        self.overhead_s = 0.0
        self._callbacks = [*callbacks, validation] if validation else list(callbacks)
        self._validation = validation
        self._started: float | None = None
        self._last_step: float | None = None
        self._overhead_before = 0.0
        self._closed: float | None = None
        atexit.register(self.close)

    def step(
        self,
        step: int,
        rollout: Rollout | Callable[[], Rollout] | None = None,
        *,
        update: Rollout | Callable[[], Rollout] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """A training step ended: measure its rollout and log it, with the loop's own scalars in `values`.

        Call it after the jitted step returned and before the next one is called, which may donate the rollout's
        arrays. A rollout may also be a function that builds it from what the host will not change: it is called on
        the worker thread. `StepEvent` says what `update` is for.
        """
        with self._costed():
            generated, updated = (None if given is None else Source(given) for given in (rollout, update))
            event = self._guarded("a step", self._event, step, generated, updated, values or {})
            for callback in self._callbacks if event else ():
                self._guarded(f"{type(callback).__name__} at step {event.step}", callback.on_step, event)

    def log(self, step: int, values: Mapping[str, Any], stream: str = "train") -> None:
        """Log values of your own, by key."""
        with self._costed():
            self.logger.log(step, values, stream=stream)

    def validate(self, step: int, policy: Policy, *, always: bool = False) -> bool:
        """Validate the policy after `step` updates on held-out data, if that is due or `always`; True if it was taken.

        The snapshot is taken now, the rest happens on a thread; the result is logged at `step` when it is there.
        """
        if self._validation is None:
            return False
        with self._costed():
            taken = self._guarded("a validation", self._validation.submit, step, policy, always)
        return bool(taken)

    def close(self) -> None:
        """Finish the last validation, write everything and close the sinks. Idempotent."""
        if self._closed is not None:
            return
        self._closed = time.perf_counter()
        try:
            for callback in self._callbacks:
                self._guarded(f"closing {type(callback).__name__}", callback.close)
        finally:  # also when Ctrl-C ends the wait for a validation
            self.logger.close()
            atexit.unregister(self.close)

    @property
    def overhead_fraction(self) -> float:
        """The share of the time since the first call that the observer took on the training thread."""
        now = time.perf_counter() if self._closed is None else self._closed
        elapsed = now - self._started if self._started is not None else 0.0
        return self.overhead_s / elapsed if elapsed > 0 else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _event(
        self, step: int, rollout: Source | None, update: Source | None, values: Mapping[str, Any]
    ) -> StepEvent:
        now = time.perf_counter()
        step_s = now - self._last_step if self._last_step is not None else None
        overhead_s, self._overhead_before = self.overhead_s - self._overhead_before, self.overhead_s
        self._last_step = now
        return StepEvent(
            int(step), self.logger, rollout, update, values, step_s, overhead_s, self.overhead_fraction
        )

    def _guarded(self, what: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Exception as error:  # an observer must not harm the run, whatever a callback of anyone's raises
            self.logger.complaints.add(what, error)
            return None

    @contextmanager
    def _costed(self) -> Iterator[None]:
        started = time.perf_counter()
        if self._started is None:
            self._started = started
        try:
            yield
        finally:
            self.overhead_s += time.perf_counter() - started

"""`Observer`: what a training loop or a host adapter talks to. It never waits, and never raises into the training."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from toolkit.agreement import Agreement
from toolkit.callbacks import (
    Callback,
    CheckpointEvent,
    EndEvent,
    Given,
    ReportEvent,
    StartEvent,
    SubmitEvent,
    nobody,
)
from toolkit.callbacks.asks import Asks, Checkpoint, Request, Requests
from toolkit.callbacks.hooks import Hooks
from toolkit.callbacks.steps import StepEvents
from toolkit.callbacks.validation import ValidationCallback
from toolkit.config import Config
from toolkit.location import located
from toolkit.logger import Logger
from toolkit.record import Text
from toolkit.trees import Trees
from toolkit.validation.heldout import HeldOut
from toolkit.validation.policy import Policy

Saver: TypeAlias = Callable[[int, str], str | Path]
"""(step, why) -> where it saved the state of the training; called on the training thread, between two steps."""


class Observer:
    """Hands each step to the callbacks, keeps the time, and closes everything at the end; a context manager.

    All methods belong to the training thread. What a callback raises is logged once and counted. `log_dir` is the
    run's directory. What callbacks ask for is in `asks`: with `save` the observer has checkpoints saved itself,
    without it the loop looks there. With `agreement` they are the same in all processes, after every call of `step`.
    `closing` is called last, when the worker thread has written everything. `config` is what it was made from, where an
    adapter finds what it does itself.
    """

    def __init__(
        self,
        logger: Logger,
        callbacks: Sequence[Callback],
        validation: ValidationCallback | None = None,
        log_dir: Path | None = None,
        closing: Sequence[Callable[[], None]] = (),
        save: Saver | None = None,
        agreement: Agreement | None = None,
        config: Config | None = None,
    ) -> None:
        self.logger = logger
        self.log_dir = log_dir
        self.config = config or Config()
        self.overhead_s = 0.0
        self._requests = Requests(agreement)
        self._hooks = Hooks([*callbacks, validation] if validation else callbacks, logger.complaints)
        self._validation = validation
        self._closing = tuple(closing)
        self._saver = save
        self._steps = StepEvents(logger, self._hooks.seconds, self._ask)
        self._started: float | None = None
        self._closed: float | None = None
        atexit.register(self.close)

    def start(self, step: int = 0, total_steps: int | None = None) -> None:
        """The run begins at `step`, and goes on to `total_steps`. Without it, the first other call is the start."""
        if self._started is None:
            self._started = time.perf_counter()
            self._hooks.call("on_start", StartEvent(step, self.logger, self.log_dir, total_steps, self._ask))

    def ahead(self, step: int, rollout: Given | None = None, *, update: Given | None = None) -> None:
        """All that `step` will be measured from is there, and the worker may measure it now: call `step` without it.

        Arrays must stay as they are until `step`, which may still be given another rollout or update. For a loop of
        torch, between the loss and its backward pass: that leaves the interpreter to the worker, which otherwise takes
        it from the training thread later.
        """
        with self._costed(step):
            try:
                event = self._steps.ahead(step, rollout, update)
            except Exception as error:  # as in `step`
                self.logger.complaints.add(f"step {step!r}", error)
                return
            self._hooks.call("on_rollout", event)

    def step(
        self,
        step: int,
        rollout: Given | None = None,
        *,
        update: Given | None = None,
        values: Mapping[str, Any] | None = None,
        timings: Mapping[str, float] | None = None,
        batch: Mapping[str, Any] | None = None,
        trees: Trees | None = None,
    ) -> None:
        """A training step ended: measure its rollout and log it, with the loop's own scalars in `values`.

        Call it after the jitted step returned and before the next one is called, which may donate the rollout's
        arrays. Instead of a rollout it may be a list of them, which are parts of the step (micro-batches, each of whole
        groups); a function that builds one from what the host will not change, called on the worker thread; or the
        `Measurement` or `Statistics` that the loop's own jitted step returned. `StepEvent` says what `update` and
        `timings` are for.

        `batch` is a batch of any other kind: arrays [batch], scalars and lists of texts by name, for `batch/`. `trees`
        is for `layers/`: `{"gradients": ..., "parameters": ...}`, or what `toolkit.tree_statistics` made of them.
        """
        with self._costed(step):
            try:
                event = self._steps.ended(
                    step,
                    rollout,
                    update,
                    values=values or {},
                    timings=timings or {},
                    batch=batch,
                    trees=trees,
                    overhead_s=self.overhead_s,
                    overhead_fraction=self.overhead_fraction,
                )
            except Exception as error:  # an observer must not harm the run, whatever it is given
                self.logger.complaints.add(f"step {step!r}", error)
                return
            self._hand_out_reports()
            self._hooks.call("on_step", event)
            self._requests.settle(event.step)
        self._save_if_asked(event.step)

    def log(self, step: int, values: Mapping[str, Any], stream: str = "train") -> None:
        """Log values of your own, by key."""
        with self._costed(step):
            self.logger.log(step, values, stream=stream)

    def validate(self, step: int, policy: Policy, *, always: bool = False, at_end_of_step: bool = False) -> bool:
        """Validate the policy after `step` updates on held-out data, if that is due or `always`; True if it was taken.

        The snapshot is taken now, the rest happens on a thread; the result is logged at `step` when it is there. Of
        several processes a checkpoint of this policy is asked for only `at_end_of_step`: where the call of `step` with
        the same number comes next, before any other update.
        """
        if self._validation is None:
            return False
        with self._costed(step):
            taken = self._guarded("a validation", self._validation.submit, step, policy, always)
            if taken:
                ask = self._ask if at_end_of_step or self._requests.agreement is None else nobody
                self._hooks.call("on_submit", SubmitEvent(int(step), self.logger, ask))
        if taken:
            self._save_if_asked(int(step))
        return bool(taken)

    @property
    def asks(self) -> Asks:
        """What is asked of the training now."""
        return self._requests.asks

    @property
    def last_step(self) -> int | None:
        """The number of the last step, None before the first."""
        return self._steps.last

    @property
    def agrees(self) -> bool:
        """Whether what is asked is the same in all processes of the run."""
        return self._requests.agree

    @property
    def validates(self) -> bool:
        """Whether there is held-out data that `validate` validates on."""
        return self._validation is not None

    @property
    def heldout(self) -> Sequence[HeldOut]:
        """The data sets that `validate` validates on."""
        return self._validation.data if self._validation else ()

    def saved(self, step: int, path: str | Path, *, expendable: bool = False) -> None:
        """The host saved the state of the training after `step`: what was asked for is done, and callbacks know.

        `expendable` says that it did so only because it was asked to: it may be deleted when there are too many.
        """
        why = self.asks.checkpoint or "the host saved it"
        self.asks.checkpoint_done()
        self._tell_saved(step, path, why, expendable=expendable)

    def forget_checkpoint(self) -> None:
        """The state of the training as it is now cannot be saved: what was asked for it is wanted no longer."""
        self._requests.forget_checkpoint()

    def forget_asks(self) -> None:
        """What was asked is wanted no longer: the training that it was asked of is over."""
        self._requests.forget()

    def forget_policy(self) -> None:
        """The policy that waits for its validation is another one by now."""
        if self._validation is not None:
            self._validation.forget_policy()

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed is not None

    def close(self) -> None:
        """Finish the last validation, write everything and close the sinks. Idempotent."""
        if self._closed is not None:
            return
        self._closed = time.perf_counter()
        try:
            if self._validation is not None:
                self._guarded("closing the validation", self._validation.close)
                self._hand_out_reports()
            self._hooks.call("on_end", EndEvent(self._steps.last, self.logger))
        finally:  # also when Ctrl-C ends the wait for a validation
            self.logger.close()
            for close in self._closing:
                self._guarded("closing", close)
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

    def _hand_out_reports(self) -> None:
        while self._validation is not None and (report := self._validation.poll()) is not None:
            step = report.policy_step if self._steps.last is None else self._steps.last
            self._hooks.call("on_report", ReportEvent(step, report, self.logger, self._ask))

    def _ask(self, request: Request) -> None:
        if self._requests.add(request):
            kind = "checkpoint" if isinstance(request, Checkpoint) else "stop"
            self.logger.log(self._steps.last or 0, {f"asked/{kind}": Text(request.why)}, stream="system")

    def _save_if_asked(self, step: int) -> None:
        why = self.asks.checkpoint
        if self._saver is None or why is None or not self.agrees:
            return
        self.asks.checkpoint_done()
        began = time.perf_counter()
        path = self._guarded("a checkpoint", self._saver, step, why)
        seconds = time.perf_counter() - began
        if path is not None:
            self._tell_saved(step, path, why, ours=True, seconds=seconds)

    def _tell_saved(self, step: int, path: str | Path, why: str, **known: Any) -> None:
        with self._costed(step):
            self._guarded("a checkpoint", self._call_saved, step, path, why, known)

    def _call_saved(self, step: int, path: str | Path, why: str, known: Mapping[str, Any]) -> None:
        event = CheckpointEvent(int(step), located(path), why, self.logger, **known)
        self._hooks.call("on_checkpoint", event)

    def _guarded(self, what: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return hook(*arguments)
        except Exception as error:  # an observer must not harm the run
            self.logger.complaints.add(what, error)
            return None

    def _costed(self, step: int) -> _Costed:
        self.start(step)
        return _Costed(self)


class _Costed:
    """Adds the time of its block to what the observer took; not a generator, which costs as much as a callback."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._began = time.perf_counter()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._observer.overhead_s += time.perf_counter() - self._began

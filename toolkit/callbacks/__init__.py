"""What reacts to a run. Every hook gets one frozen data object, so that its signature never grows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from toolkit.callbacks.asks import Checkpoint, Request, Stop
from toolkit.errors import RolloutError
from toolkit.hold import hold
from toolkit.logger import Logger
from toolkit.measurement import Measurement, Statistics
from toolkit.rollout import ARRAYS, Rollout
from toolkit.trees import Trees
from toolkit.validation.runner import Report

__all__ = [
    "HOOKS",
    "Callback",
    "Checkpoint",
    "CheckpointEvent",
    "EndEvent",
    "Gathered",
    "Given",
    "ReportEvent",
    "RolloutEvent",
    "Source",
    "StartEvent",
    "StepEvent",
    "Stop",
    "SubmitEvent",
]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Builds the rollout of this process where the host gathers the rewards of all.

    `own` builds that of the rows of this process alone, and `whole` one of the rewards of all, with their groups.
    """

    own: Callable[[], Rollout]
    whole: Callable[[], Rollout]

    def __call__(self) -> Rollout:
        """The own rollout."""
        return self.own()


Given: TypeAlias = Rollout | Sequence[Rollout] | Callable[[], Rollout] | Measurement | Statistics
"""What a loop may hand over for a step: see `Observer.step`."""

Ask: TypeAlias = Callable[[Request], None]
"""`event.ask(Stop("why"))`, on the training thread, asks the training for it; the loop or the host may follow."""


class Source:
    """Where the numbers of a step come from: rollouts of the host's, a function for one, or finished metrics.

    `whole` is where the rewards of all processes come from, if the host gathers them.
    """

    def __init__(self, given: Given) -> None:
        self.whole: Source | None = None
        self.measured: Measurement | Statistics | None = None
        self._build: Callable[[], Rollout] | None = None
        self._parts: tuple[Rollout, ...] = ()
        if isinstance(given, (Measurement, Statistics)):
            self.measured = given
        elif callable(given):
            self._build = cache(given)
            self.whole = Source(given.whole) if isinstance(given, Gathered) else None
        else:
            self._parts = (given,) if isinstance(given, Rollout) else tuple(given)
        if not all(isinstance(part, Rollout) for part in self._parts):
            raise RolloutError(f"expected a toolkit.Rollout, or several of them, got {given!r:.200}")

    def later(self, names: Collection[str] = ARRAYS) -> Callable[[], tuple[Rollout, ...]]:
        """A function that gives the parts of the step on another thread, with these of their arrays.

        Take it on the training thread, while the step lasts: what the next step may donate is copied, in one dispatch a
        part. Raises `RolloutError` for arrays that cannot be read any more.
        """
        if build := self._build:
            return lambda: (build(),)
        held = [hold(part, names) for part in self._parts]
        return lambda: tuple(part() for part in held)


def nobody(request: Request) -> None:
    """Where nobody can be asked: an event made by hand, as in a test."""


@dataclass(frozen=True, slots=True)
class StartEvent:
    """The run begins at `step`, and goes on to `total_steps` where that is known; `log_dir` is its directory."""

    step: int
    logger: Logger
    log_dir: Path | None = None
    total_steps: int | None = None
    ask: Ask = nobody


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """What `step` is measured from is there already, while it goes on; its `StepEvent` brings it again."""

    step: int
    logger: Logger
    rollout: Source | None = None
    update: Source | None = None
    since: int | None = None
    update_since: int | None = None


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step of training, as it ends.

    `rollout` is what was generated for the step, None where it reuses an older one, and `since` the last step before
    that had one, None where it is not known. `update` has the token statistics of the optimiser's pass where they come
    separately, in rows of another order; `update_since` is as `since`, of the update or, without one, of the rollout.
    `values` are the host's own scalars, and `timings` seconds by phase, beside those that the rollout has. `batch` is a
    batch of any other kind, by name, and `trees` the gradients, parameters and so on.

    `step_s` is the time since the last step, None at the first; `overhead_s` what the observer took of it on this
    thread, and `overhead_fraction` its share of all time so far; `callback_s` the seconds of each callback so far.
    """

    step: int
    logger: Logger
    rollout: Source | None = None
    update: Source | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    batch: Mapping[str, Any] | None = None
    trees: Trees | None = None
    step_s: float | None = None
    overhead_s: float = 0.0
    overhead_fraction: float = 0.0
    callback_s: Mapping[str, float] = field(default_factory=dict)
    ask: Ask = nobody
    since: int | None = None
    update_since: int | None = None

    def lean(self) -> StepEvent:
        """Without what is only lent for the step: a row that waits for the worker would keep all of it in memory."""
        return replace(self, rollout=None, update=None, values={}, batch=None, trees=None)


@dataclass(frozen=True, slots=True)
class SubmitEvent:
    """A snapshot of the policy after `step` updates was taken, to be validated: now the weights are those."""

    step: int
    logger: Logger
    ask: Ask = nobody


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """A validation finished: `report`, of the policy of `report.policy_step`, was there at training step `step`."""

    step: int
    report: Report
    logger: Logger
    ask: Ask = nobody


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """The state of the training after `step` was saved at `path`, and why. `path` is absolute, or a URL as a text.

    `ours` says that the observer had it saved; otherwise it is the host's. `seconds` is how long that took. A host's is
    `expendable` where it was saved only because a callback asked for it: it may be deleted.
    """

    step: int
    path: Path | str
    why: str
    logger: Logger
    ours: bool = False
    seconds: float | None = None
    expendable: bool = False


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The run ends after `step`, None when it had none; the logger still takes rows."""

    step: int | None
    logger: Logger


class OnStart(Protocol):
    """Is told of the start."""

    def on_start(self, event: StartEvent) -> None:
        """The run begins: called once, before all else."""


class OnRollout(Protocol):
    """Is told of rollouts before their step ends."""

    def on_rollout(self, event: RolloutEvent) -> None:
        """What the step is measured from is there; called by hosts that know it, and only by some."""


class OnStep(Protocol):
    """Is told of steps."""

    def on_step(self, event: StepEvent) -> None:
        """A step ended."""


class OnSubmit(Protocol):
    """Is told of policies on their way to validation."""

    def on_submit(self, event: SubmitEvent) -> None:
        """A policy was handed in for validation."""


class OnReport(Protocol):
    """Is told of held-out results."""

    def on_report(self, event: ReportEvent) -> None:
        """A validation finished; called at the next step, or at the end."""


class OnCheckpoint(Protocol):
    """Is told of checkpoints."""

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """A checkpoint was saved, by whomever."""


class OnEnd(Protocol):
    """Is told of the end."""

    def on_end(self, event: EndEvent) -> None:
        """The run ends: called once, before the logger closes."""


Callback: TypeAlias = OnStart | OnRollout | OnStep | OnSubmit | OnReport | OnCheckpoint | OnEnd
"""Any object with one of these methods or more.

All are called on the training thread, in the order of the callbacks, so they must not wait. They may raise: the
observer says so once, and training goes on. What takes time belongs into a function that is given to `event.logger.log`
in the place of values: the worker thread calls it.
"""

HOOKS = ("on_start", "on_rollout", "on_step", "on_submit", "on_report", "on_checkpoint", "on_end")

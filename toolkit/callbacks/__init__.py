"""What reacts to a step. Every hook gets one frozen data object, so that its signature never grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from toolkit.logger import Logger
from toolkit.rollout import Rollout, hold


class Source:
    """Where the rollout of a step comes from: an object of the host's, or a function that builds it off its thread."""

    def __init__(self, rollout: Rollout | Callable[[], Rollout]) -> None:
        self._rollout = rollout

    @cached_property
    def later(self) -> Callable[[], Rollout]:
        """A function that gives the rollout on another thread. Take it on the training thread, while the step lasts.

        Device arrays are copied in one dispatch, once for all callbacks, as the next step may donate them; a step that
        no callback measures copies nothing. Raises `RolloutError` for arrays that cannot be read any more.
        """
        if callable(self._rollout):
            return self._rollout
        held = hold(self._rollout)
        return lambda: held


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step of training, as it ends; given on the training thread.

    `rollout` is what was generated for the step, None where it reuses an older one. `update` has the token statistics
    of the optimiser's pass where they come separately, in rows of another order. `values` are the host's own scalars.
    `step_s` is the time since the last step, None at the first; `overhead_s` what the observer took of it on this
    thread, and `overhead_fraction` its share of all time so far.
    """

    step: int
    logger: Logger
    rollout: Source | None = None
    update: Source | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    step_s: float | None = None
    overhead_s: float = 0.0
    overhead_fraction: float = 0.0


class Callback(Protocol):
    """Measures and logs. It may raise: the observer says so once and training goes on."""

    def on_step(self, event: StepEvent) -> None:
        """A step ended. Called on the training thread, so it must not wait."""

    def close(self) -> None:
        """The run ends. Called once, before the logger closes."""

"""What reacts to a step. Every hook gets one frozen data object, so that its signature never grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from toolkit.logger import Logger
from toolkit.rollout import Rollout

RolloutSource: TypeAlias = Rollout | Callable[[], Rollout]
"""A rollout, or a function that builds one from host values and is called on the worker thread."""


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step of training, as it ends. Lives on the training thread; a callback must not keep device arrays of it.

    `rollout` is what was generated for the step, None where it reuses an older one. `update` has the token statistics
    of the optimiser's pass where they come separately, in rows of another order. `values` are the host's own scalars.
    `step_s` is the time since the last step, None at the first; `overhead_s` what the observer took of it on this
    thread, and `overhead_fraction` its share of all time so far.
    """

    step: int
    logger: Logger
    rollout: RolloutSource | None = None
    update: RolloutSource | None = None
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

"""The events of steps: what a loop handed over, with what is known of the steps before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from toolkit.callbacks import Ask, Given, RolloutEvent, Source, StepEvent
from toolkit.logger import Logger
from toolkit.trees import Trees
from toolkit.values import unchanging


class StepEvents:
    """Makes the event of each step, and keeps what the next one needs: its number, its time, what was given ahead.

    `callback_s` are the seconds of each callback so far. Raises for the number of a step that is none.
    """

    def __init__(self, logger: Logger, callback_s: Mapping[str, float], ask: Ask) -> None:
        self.last: int | None = None
        self._logger = logger
        self._callback_s = MappingProxyType(callback_s)
        self._ask = ask
        self._ahead: RolloutEvent | None = None
        self._last_rollout: int | None = None
        self._last_update: int | None = None
        self._ended_at: float | None = None
        self._overhead_s = 0.0

    def ahead(self, step: int, rollout: Given | None, update: Given | None) -> RolloutEvent:
        """The event of a step that goes on."""
        step = int(step)
        sources = self._source(rollout), self._source(update)
        self._ahead = RolloutEvent(step, self._logger, *sources, *self._since(*sources))
        return self._ahead

    def ended(
        self,
        step: int,
        rollout: Given | None,
        update: Given | None,
        *,
        values: Mapping[str, Any],
        timings: Mapping[str, float],
        batch: Mapping[str, Any] | None,
        trees: Trees | None,
        overhead_s: float,
        overhead_fraction: float,
    ) -> StepEvent:
        """The event of a step that ends now; what it is not given is what was given ahead."""
        now = time.perf_counter()
        step_s = now - self._ended_at if self._ended_at is not None else None
        of_step, self._overhead_s = overhead_s - self._overhead_s, overhead_s
        self._ended_at = now
        self.last = int(step)
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.step != self.last:
            ahead = RolloutEvent(self.last, self._logger)
        rollout_of = ahead.rollout if rollout is None else self._source(rollout)
        update_of = ahead.update if update is None else self._source(update)
        since, update_since = self._since(rollout_of, update_of)
        if rollout_of:
            self._last_rollout = self.last
        if rollout_of or update_of:
            self._last_update = self.last
        return StepEvent(
            step=self.last,
            logger=self._logger,
            rollout=rollout_of,
            update=update_of,
            values=MappingProxyType(values) if isinstance(values, Mapping) else values,
            timings=MappingProxyType(unchanging(timings)),
            batch=_own(batch),
            trees=_own(trees),
            step_s=step_s,
            overhead_s=of_step,
            overhead_fraction=overhead_fraction,
            callback_s=self._callback_s,
            ask=self._ask,
            since=since,
            update_since=update_since,
        )

    def _since(self, rollout: Source | None, update: Source | None) -> tuple[int | None, int | None]:
        """The last step before that had a rollout, for a step that has one too; and the same of updates."""
        since = self._last_rollout if rollout else None
        return since, self._last_update if update else since

    def _source(self, given: Given | None) -> Source | None:
        try:
            return None if given is None else Source(given)
        except Exception as error:  # it can be anything, and costs only itself
            self._logger.complaints.add("a rollout", error)
            return None


def _own(given: Any) -> Any:
    # Not the loop's own dictionary, which a callback might write into. What is none the callbacks refuse.
    return dict(given) if isinstance(given, Mapping) else given

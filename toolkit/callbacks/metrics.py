"""The metric families of a step, measured in one computation and logged in one row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from toolkit.callbacks import Source, StepEvent
from toolkit.config import Metrics
from toolkit.logger import Complaints, unchanging
from toolkit.measure import measure, missing
from toolkit.rollout import Rollout

_log = logging.getLogger("toolkit")
_OF_UPDATE = frozenset({"policy", "sampler"})

_Part: TypeAlias = tuple[Callable[[], Rollout], frozenset[str]]


class MetricsCallback:
    """Logs what the configuration switches on and the rollout has the fields for.

    | key | what |
    |---|---|
    | `rewards/*`, `groups/*`, `advantages/*`, `completions/*`, `format/*` | of the step's rollout |
    | `policy/*`, `sampler/*` | of the optimiser's pass where it comes separately, else of the rollout |
    | `throughput/*`, `time/step_s`, `time/NAME` | from the time between steps and the rollout's timings |
    | `trainer/NAME` | the host's own scalars |
    """

    def __init__(self, settings: Metrics) -> None:
        self._settings = settings
        self._said_missing = False

    def on_step(self, event: StepEvent) -> None:
        """Take hold of the arrays for the families due at this step, and queue the row that the worker will fill."""
        families = self._settings.due(event.step)
        row = {f"trainer/{key}": value for key, value in unchanging(event.values).items()}
        if "time" in families and event.step_s is not None:
            row["time/step_s"] = event.step_s
        of_rollout = families - _OF_UPDATE if event.update is not None else families
        wanted = ((event.rollout, of_rollout), (event.update, families & _OF_UPDATE))
        parts = [part for source, of_it in wanted if source and of_it and (part := self._held(source, of_it, event))]
        event.logger.log(event.step, lambda: self._row(row, parts, event.step_s, event.logger.complaints))

    def close(self) -> None:
        """Nothing to close."""

    def _held(self, source: Source, families: frozenset[str], event: StepEvent) -> _Part | None:
        try:
            return source.later, families
        except Exception as error:  # whatever is wrong with the rollout, the host's own scalars are still logged
            event.logger.complaints.add(f"the metrics of step {event.step}", error)
            return None

    def _row(
        self, row: dict[str, Any], parts: list[_Part], step_s: float | None, complaints: Complaints
    ) -> dict[str, Any]:
        """The row with what each part gives; called on the worker thread, which compiles, computes and waits."""
        for rollout_of, families in parts:
            try:
                row |= self._measured(rollout_of(), families, step_s)
            except Exception as error:  # as above
                complaints.add("metrics", error)
        return row

    def _measured(self, rollout: Rollout, families: frozenset[str], step_s: float | None) -> dict[str, Any]:
        self._say_missing(rollout, families)
        times = rollout.timings if rollout.timings and "time" in families else {}
        found = measure(rollout, self._settings, families, step_s).values()
        return {**found, **{f"time/{name}": seconds for name, seconds in times.items()}}

    def _say_missing(self, rollout: Rollout, families: frozenset[str]) -> None:
        lacking = missing(rollout, families)
        if lacking and not self._said_missing:
            self._said_missing = True
            listed = "; ".join(f"{family} (no {', '.join(needs)})" for family, needs in lacking.items())
            _log.info("not measured, as the rollout lacks fields: %s", listed)

"""The metric families of a step, measured in one computation and logged in one row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.callbacks import RolloutSource, StepEvent
from toolkit.config import Metrics
from toolkit.logger import Complaints
from toolkit.measure import measure, missing, prepare
from toolkit.rollout import Rollout

_log = logging.getLogger("toolkit")
_OF_UPDATE = frozenset({"policy", "sampler"})


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
        self._complaints = Complaints()
        self._said_missing = False

    def on_step(self, event: StepEvent) -> None:
        """Dispatch the measurement of the families due at this step, and queue the row."""
        families = self._settings.due(event.step)
        row = {f"trainer/{key}": value for key, value in event.values.items()}
        if "time" in families:
            row |= _times(event)
        of_rollout = families - _OF_UPDATE if event.update is not None else families
        measured = [
            self._measured(source, wanted, event)
            for source, wanted in ((event.rollout, of_rollout), (event.update, families & _OF_UPDATE))
            if source is not None
        ]
        event.logger.log(event.step, lambda: self._row(row, measured))

    def close(self) -> None:
        """Nothing to close."""

    def _measured(
        self, source: RolloutSource, families: frozenset[str], event: StepEvent
    ) -> Callable[[], Mapping[str, Any]]:
        """A function for the worker that gives the metrics.

        Device arrays are measured here and now, as the next step may donate them. Only where that would compile first
        does the worker measure copies of them, and a rollout that is still to be built it measures anyway.
        """
        if callable(source):
            return lambda: measure(source(), self._settings, families, event.step_s).values()
        self._say_missing(source, families)
        try:
            prepared = prepare(source, self._settings, families, event.step_s)
            if prepared.compiled or not prepared.movable:
                return prepared.measure().values
            held = prepared.held()
            return lambda: held.measure().values()
        except Exception as error:  # whatever is wrong with the rollout, the host's own scalars are still logged
            self._complaints.add(f"the metrics of step {event.step}", error)
            return dict

    def _row(self, row: dict[str, Any], measured: list[Callable[[], Mapping[str, Any]]]) -> dict[str, Any]:
        for values in measured:
            try:
                row |= values()
            except Exception as error:  # as above, now on the worker thread
                self._complaints.add("metrics", error)
        return row

    def _say_missing(self, rollout: Rollout, families: frozenset[str]) -> None:
        lacking = missing(rollout, families)
        if lacking and not self._said_missing:
            self._said_missing = True
            listed = "; ".join(f"{family} (no {', '.join(needs)})" for family, needs in lacking.items())
            _log.info("not measured, as the rollout lacks fields: %s", listed)


def _times(event: StepEvent) -> dict[str, float]:
    timings = event.rollout.timings if isinstance(event.rollout, Rollout) else None
    times = {f"time/{name}": seconds for name, seconds in (timings or {}).items()}
    return times if event.step_s is None else {"time/step_s": event.step_s, **times}

"""The metric families of a step, measured in one computation and logged in one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from toolkit.callbacks import RolloutEvent, Source, StepEvent
from toolkit.callbacks.text import TEXT_NEEDS, TextMetrics
from toolkit.complaints import Complaints
from toolkit.families import NEEDS
from toolkit.hold import joined
from toolkit.measure import fields_read, finished, measure, missing
from toolkit.measurement import Measurement, Statistics
from toolkit.own_log import log as _log
from toolkit.record import Histogram, Value
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.share import Share
from toolkit.texts import FORMAT_NEEDS, measure_format
from toolkit.throughput import rates
from toolkit.values import unchanging

_NEEDS = {**NEEDS, **FORMAT_NEEDS, **TEXT_NEEDS}
_OF_UPDATE = frozenset({"policy", "sampler"})
_OF_BOTH = frozenset({"time"})


@dataclass(frozen=True, slots=True)
class Found:
    """What one source gave: values by key, and of one process among several what is to be merged with the others'.

    `timings` are the seconds of the phases that the rollout has.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    shares: Sequence[Share] = ()


_Sources: TypeAlias = tuple[Source | None, Source | None]
_Part: TypeAlias = Callable[[], Found]
"""What the worker calls for what one source gives: measured at the first call, and it never raises."""


class MetricsCallback:
    """Logs what the configuration switches on and the rollout has the fields for.

    | key | what |
    |---|---|
    | `rewards/*`, `groups/*`, `advantages/*`, `completions/*`, `format/*`, `task/*` | of the step's rollout |
    | `policy/*`, `sampler/*` | of the optimiser's pass where it comes separately, else of the rollout |
    | `throughput/*`, `time/step_s`, `time/NAME` | from the time between steps, and the timings of the phases |
    | `trainer/NAME` | the host's own scalars |
    """

    def __init__(self, settings: Metrics, text: TextMetrics | None = None) -> None:
        self._settings = settings
        self._text = text or TextMetrics(settings)
        self._looked_at: frozenset[str] = frozenset()
        self._ahead: tuple[_Sources, list[_Part]] = (None, None), []

    def on_rollout(self, event: RolloutEvent) -> None:
        """Take hold of the arrays, and have the worker measure them before the step ends."""
        parts = self._parts(event)
        self._ahead = (event.rollout, event.update), parts
        for part in parts:
            event.logger.ahead(part)

    def on_step(self, event: StepEvent) -> None:
        """Take hold of the arrays for the families due at this step, and queue the row that the worker will fill."""
        families = self._settings.due(event.step, event.since)
        row = {f"trainer/{key}": value for key, value in unchanging(event.values).items()}
        if "time" in families:
            row |= {f"time/{phase}": seconds for phase, seconds in event.timings.items()}
            if event.step_s is not None:
                row["time/step_s"] = event.step_s
        (of, parts), self._ahead = self._ahead, ((None, None), [])
        if of != (event.rollout, event.update):
            parts = self._parts(event)
        lean = event.lean()
        event.logger.log(event.step, lambda: self._filled(row, parts, lean))

    def _parts(self, event: RolloutEvent | StepEvent) -> list[_Part]:
        """What the worker calls for the row, with hold taken of the arrays."""
        families = self._settings.due(event.step, event.since)
        of_rollout = families - _OF_UPDATE if event.update else families
        of_update = self._settings.due(event.step, event.update_since) & (_OF_UPDATE | _OF_BOTH)
        wanted = ((event.rollout, of_rollout), (event.update, of_update))
        return [part for source, of_it in wanted if source and of_it and (part := self._part(source, of_it, event))]

    def _part(self, source: Source, families: frozenset[str], event: RolloutEvent | StepEvent) -> _Part | None:
        """What the worker calls for this source; None where it cannot be read."""
        step, complaints = event.step, event.logger.complaints
        if measured := source.measured:
            return once(lambda: self._finished(measured), complaints)
        try:
            rollouts_of = source.later(_read(families))
        except Exception as error:  # whatever is wrong with the rollout, the host's own scalars are still logged
            complaints.add(f"the metrics of step {step}", error)
            return None
        return once(lambda: self._measured(rollouts_of(), families, step, complaints), complaints)

    def _finished(self, measured: Measurement | Statistics) -> Found:
        """The values of what the loop itself measured."""
        return Found(finished(measured).values())

    def _measured(
        self, rollouts: Sequence[Rollout], families: frozenset[str], step: int, complaints: Complaints
    ) -> Found:
        """The values of the families; on the worker thread, which compiles, computes and waits."""
        self._say_missing(rollouts[0], families)
        whole = joined(rollouts)
        # Both computations are under way before the first is waited for.
        measured = [measure(rollouts, self._settings, families, step)]
        if "format" in families and whole.completions:
            measured.append(measure_format(rollouts, self._settings.format))
        values = {key: value for each in measured for key, value in each.values().items()}
        if from_text := families.intersection(TEXT_NEEDS):
            judged = from_text.difference(missing(whole, from_text, TEXT_NEEDS))
            values |= self._judged(whole, judged, step, complaints)
        return Found(values | seconds(whole, families), whole.timings or {})

    def _filled(self, row: dict[str, Any], parts: Sequence[_Part], event: StepEvent) -> dict[str, Any]:
        """The row with what each part gives."""
        for part in parts:
            found = part()
            row |= self._with_rates(found.values, event, found.timings)
        return row

    def _with_rates(
        self, values: Mapping[str, Value], event: StepEvent, timings: Mapping[str, float]
    ) -> dict[str, Value]:
        """The values that are due, with what they are by the second; `timings` are the rollout's."""
        passes = self._settings.compute.passes_a_step
        return rates(self._due(values, event), event.step_s, {**event.timings, **timings}, passes)

    def _due(self, values: Mapping[str, Value], event: StepEvent) -> Mapping[str, Value]:
        """The values, without the histograms that are not due: they are half of TensorBoard's work."""
        of_rollout = self._settings.histograms.due(event.step, event.since)
        of_update = self._settings.histograms.due(event.step, event.update_since)
        if of_rollout and of_update:
            return values
        due = dict.fromkeys(_OF_UPDATE, of_update)
        return {
            key: value
            for key, value in values.items()
            if type(value) is not Histogram or due.get(key.partition("/")[0], of_rollout)
        }

    def _judged(
        self, rollout: Rollout, families: frozenset[str], step: int, complaints: Complaints
    ) -> dict[str, float]:
        try:
            return self._text.values(rollout, families, step, complaints)
        except Exception as error:  # a child process that cannot start must not cost the numbers
            complaints.add("what is judged by text", error)
            return {}

    def _say_missing(self, rollout: Rollout, families: frozenset[str]) -> None:
        """Say of each family what it lacks when it is first due; what goes missing later is not looked for."""
        fresh = families - self._looked_at
        self._looked_at |= fresh
        if fresh and (lacking := missing(rollout, fresh, _NEEDS)):
            listed = "; ".join(f"{family} (no {', '.join(needs)})" for family, needs in lacking.items())
            _log.info("not measured, as the rollout lacks fields: %s", listed)


@cache
def _read(families: frozenset[str]) -> set[str]:
    return fields_read(families, _NEEDS)


def seconds(rollout: Rollout, families: frozenset[str]) -> dict[str, float]:
    """The timings of the phases and the latencies of the rewards, by key, as far as their families are wanted."""
    times = {f"time/{name}": took for name, took in (rollout.timings or {}).items()}
    latencies = {f"rewards/{name}/latency_s": took for name, took in (rollout.latencies or {}).items()}
    return (times if "time" in families else {}) | (latencies if "rewards" in families else {})


def once(part: Callable[[], Found], complaints: Complaints) -> _Part:
    """The part, measured at its first call; one that cannot be must not cost the others."""

    @cache
    def found() -> Found:
        try:
            return part()
        except Exception as error:  # a rollout may be wrong in any way
            complaints.add("metrics", error)
            return Found()

    return found

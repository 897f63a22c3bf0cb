"""The metric families of all processes of a run: each measures its own rows, and process 0 logs the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from toolkit.callbacks import RolloutEvent, Source, StepEvent
from toolkit.callbacks.metrics import Found, MetricsCallback, once, seconds
from toolkit.callbacks.text import TEXT_NEEDS, TextMetrics, group_of_each
from toolkit.complaints import Complaints
from toolkit.errors import RolloutError
from toolkit.hold import joined
from toolkit.measure import finished, measure, measure_share, missing, share
from toolkit.measurement import Measurement, Statistics
from toolkit.metrics.statistic import Mean
from toolkit.processes import is_main
from toolkit.record import Value
from toolkit.rollout import Rollout, is_empty
from toolkit.settings.metrics import Metrics
from toolkit.shards import replica, spans_processes
from toolkit.share import Share, packed, whole
from toolkit.team import Team
from toolkit.texts import share_of_format

_OF_REWARDS = frozenset({"rewards", "groups"})
"""What is measured from the rewards of all processes where the host gathers them."""

_SPLIT = "groups lie on several processes: make the batch of each process a multiple of the size of a group"


class MergedMetricsCallback(MetricsCallback):
    """As `MetricsCallback`, of the rows of all processes; in all but process 0 the row stays empty.

    What a source gives in a process are shares to merge, and values that are process 0's alone or whole already.

    | key | what |
    |---|---|
    | `observer/processes` | how many processes the row is of |
    | `time/*`, `rewards/NAME/latency_s`, `trainer/*` | of process 0 |
    | all others | of all processes |
    """

    def __init__(self, settings: Metrics, text: TextMetrics, team: Team) -> None:
        super().__init__(settings, text)
        self._team = team

    def on_rollout(self, event: RolloutEvent) -> None:
        """As ever, and nothing where process 0 is gone."""
        if self._team.alive:
            super().on_rollout(event)

    def on_step(self, event: StepEvent) -> None:
        """As ever, and nothing where process 0 is gone."""
        if self._team.alive:
            super().on_step(event)

    def _part(
        self, source: Source, families: frozenset[str], event: RolloutEvent | StepEvent
    ) -> Callable[[], Found] | None:
        gathered = source.whole
        if gathered is None:
            return super()._part(source, families, event)
        own_of, whole_of = source.later(), gathered.later()
        step, complaints = event.step, event.logger.complaints
        return once(lambda: self._of_gathered(own_of(), whole_of(), families, step, complaints), complaints)

    def _of_gathered(
        self,
        own: Sequence[Rollout],
        whole: Sequence[Rollout],
        families: frozenset[str],
        step: int,
        complaints: Complaints,
    ) -> Found:
        """What there is of the own rows, and what process 0 measures of the rewards of all."""
        of_own, of_whole = families - _OF_REWARDS, families & (_OF_REWARDS | {"throughput"})
        if "text" in families and group_of_each(replace(own[0], prompts=None)) is None:
            of_own -= {"text"}
            complaints.add("what is told of the texts of a group", RolloutError(_SPLIT))
        found = self._measured(own, of_own, step, complaints)
        if is_main() and of_whole:
            values = measure(whole, self._settings, of_whole, step).values()
            found = replace(found, values={**found.values, **values, **seconds(own[0], of_whole)})
        return found

    def _finished(self, measured: Measurement | Statistics) -> Found:
        if isinstance(measured, Statistics) and not any(map(spans_processes, jax.tree.leaves(measured))):
            return Found(shares=[share(measured).on_host()])
        return Found(finished(replica(measured)).values() if is_main() else {})

    def _measured(
        self, rollouts: Sequence[Rollout], families: frozenset[str], step: int, complaints: Complaints
    ) -> Found:
        rollouts = [rollout for rollout in rollouts if not is_empty(rollout)]
        if not rollouts:  # all rows of the step lie on other processes
            return Found()
        self._say_missing(rollouts[0], families)
        together = joined(rollouts)
        # Both computations are under way before the first is waited for.
        measured = [measure_share(rollouts, self._settings, families, step)]
        if "format" in families and together.completions:
            measured.append(share_of_format(rollouts, self._settings.format))
        shares = [share.on_host() for share in measured]
        if from_text := families.intersection(TEXT_NEEDS):
            judged = from_text.difference(missing(together, from_text, TEXT_NEEDS))
            shares += self._share_of_text(together, judged, step, complaints)
        return Found(seconds(together, families), together.timings or {}, shares)

    def _filled(self, row: dict[str, Any], parts: Sequence[Callable[[], Found]], event: StepEvent) -> dict[str, Any]:
        """The row of all processes, in process 0; it waits for the others, as long as the team does."""
        found = _together([part() for part in parts])
        contributions = self._team.gathered(event.step, found.shares)
        if not contributions:
            return {}
        shares = [share for contribution in contributions for share in contribution]
        values = {**merged_values(shares, event.logger.complaints), **found.values}
        return {
            **row,
            **self._with_rates(values, event, found.timings),
            "observer/processes": float(len(contributions)),
        }

    def _share_of_text(
        self, rollout: Rollout, families: frozenset[str], step: int, complaints: Complaints
    ) -> list[Share]:
        try:
            sums = self._text.sums(rollout, families, step, complaints)
        except Exception as error:  # a child process that cannot start must not cost the numbers
            complaints.add("what is judged by text", error)
            return []
        means = {key: Mean(jnp.float32(total), jnp.float32(count)) for key, (total, count) in sums.items()}
        return [packed(Statistics(means)).on_host()]


def metrics_callback(settings: Metrics, text: TextMetrics, team: Team | None) -> MetricsCallback:
    """What measures the metric families: those of this process alone where it is in no team."""
    return MergedMetricsCallback(settings, text, team) if team else MetricsCallback(settings, text)


def _together(found: Sequence[Found]) -> Found:
    """What all sources of a step gave."""
    shares = [share for one in found for share in one.shares]
    values = {key: value for one in found for key, value in one.values.items()}
    return Found(values, {name: took for one in found for name, took in one.timings.items()}, shares)


def merged_values(shares: Sequence[Share], complaints: Complaints) -> dict[str, Value]:
    """The metrics of all shares together, by key; where processes differ in what they measure, those of the first."""
    values: dict[str, Value] = {}
    for measurement in whole(shares):
        found = measurement.values()
        if odd := sorted(found.keys() & values.keys()):
            listed = ", ".join(odd[:5])
            complaints.add("the rows of some processes", RolloutError(f"not all of them measure alike: {listed}"))
        values = {**found, **values}
    return values

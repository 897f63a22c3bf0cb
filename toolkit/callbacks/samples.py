"""Some completions of a step, to read: the best, the worst, and others drawn by the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from toolkit.callbacks import StepEvent
from toolkit.hold import joined
from toolkit.record import Table
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import Samples


class SamplesCallback:
    """Logs to the `samples` stream.

    | key | what |
    |---|---|
    | `samples/completions` | a table: best, worst or drawn, prompt, completion, reference, each reward, advantage |
    """

    def __init__(self, settings: Samples) -> None:
        self._settings = settings

    def on_step(self, event: StepEvent) -> None:
        """Queue the table when it is due; it is put together on the worker thread."""
        if event.rollout and not event.rollout.measured and self._settings.due(event.step, event.since):
            parts_of, step = event.rollout.later(("rewards", "advantages")), event.step
            event.logger.log(step, lambda: self._row(joined(parts_of()), step), stream="samples")

    def _row(self, rollout: Rollout, step: int) -> dict[str, Table]:
        if rollout.completions is None or not rollout.rewards:
            return {}
        return {"samples/completions": self._table(rollout, rollout.completions, step)}

    def _table(self, rollout: Rollout, completions: Sequence[str], step: int) -> Table:
        texts = {"prompt": rollout.prompts, "completion": completions, "reference": rollout.references}
        numbers = {name: np.asarray(reward, np.float32) for name, reward in rollout.rewards.items()}
        rows = _chosen(_totals(numbers, rollout.weights or {}), step, self._settings.rows)
        if rollout.advantages is not None and rollout.advantages.ndim == 1:
            numbers["advantage"] = np.asarray(rollout.advantages, np.float32)
        columns = {
            "chosen": list(rows.values()),
            **{name: [self._cut(column[row]) for row in rows] for name, column in texts.items() if column},
            **{name: [float(column[row]) for row in rows] for name, column in numbers.items()},
        }
        return Table(tuple(columns), list(zip(*columns.values(), strict=True)))

    def _cut(self, text: str | None) -> str | None:
        """The text without its middle, where it is too long: answers stand at the end."""
        if text is None:
            return None
        most = self._settings.max_characters
        if len(text) <= most:
            return text
        start, end = text[: (most + 1) // 2], text[len(text) - most // 2 :]
        return f"{start} [{len(text) - most} more characters] {end}"


def _totals(rewards: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted total of each row; NaN where no function gave a reward."""
    weighted = np.stack([float(weights.get(name, 1.0)) * reward for name, reward in rewards.items()])
    return np.where(np.isnan(weighted).all(axis=0), np.nan, np.nansum(weighted, axis=0))


def _chosen(totals: np.ndarray, step: int, most: int) -> dict[int, str]:
    """The best row, the worst, then others in an order that only the step decides, each with what it is."""
    rewarded = np.flatnonzero(~np.isnan(totals))
    chosen: dict[int, str] = {}
    if len(rewarded):
        chosen[int(rewarded[np.argmax(totals[rewarded])])] = "best"
        chosen.setdefault(int(rewarded[np.argmin(totals[rewarded])]), "worst")
    for row in np.random.default_rng(step).permutation(len(totals)).tolist():
        chosen.setdefault(row, "drawn")
    return dict(list(chosen.items())[:most])

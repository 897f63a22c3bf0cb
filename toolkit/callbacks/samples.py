"""Some completions of a step, to read: the best, the worst, and others drawn by the step."""

from __future__ import annotations

from collections.abc import Sequence

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
    | `samples/completions` | a table of prompt, completion, reference, each reward and the advantage |
    """

    def __init__(self, settings: Samples) -> None:
        self._settings = settings

    def on_step(self, event: StepEvent) -> None:
        """Queue the table when it is due; it is put together on the worker thread."""
        if event.rollout and not event.rollout.measured and self._settings.due(event.step):
            parts_of = event.rollout.later(("rewards", "advantages"))
            event.logger.log(event.step, lambda: self._row(joined(parts_of()), event.step), stream="samples")

    def close(self) -> None:
        """Nothing to close."""

    def _row(self, rollout: Rollout, step: int) -> dict[str, Table]:
        if rollout.completions is None or not rollout.rewards:
            return {}
        return {"samples/completions": self._table(rollout, rollout.completions, step)}

    def _table(self, rollout: Rollout, completions: Sequence[str], step: int) -> Table:
        texts = {"prompt": rollout.prompts, "completion": completions, "reference": rollout.references}
        numbers = {name: np.asarray(reward, np.float32) for name, reward in rollout.rewards.items()}
        order = _order(np.nansum(list(numbers.values()), axis=0), step)[: self._settings.rows]
        if rollout.advantages is not None and rollout.advantages.ndim == 1:
            numbers["advantage"] = np.asarray(rollout.advantages, np.float32)
        columns = {
            **{name: [self._cut(column[row]) for row in order] for name, column in texts.items() if column},
            **{name: [float(column[row]) for row in order] for name, column in numbers.items()},
        }
        return Table(tuple(columns), list(zip(*columns.values(), strict=True)))

    def _cut(self, text: str) -> str:
        most = self._settings.max_characters
        return text if len(text) <= most else f"{text[:most]} [{len(text) - most} more characters]"


def _order(rewards: np.ndarray, step: int) -> list[int]:
    """The best row, the worst, then the others in an order that only the step decides."""
    best, worst = int(np.argmax(rewards)), int(np.argmin(rewards))
    drawn = np.random.default_rng(step).permutation(len(rewards)).tolist()
    return list(dict.fromkeys([best, worst, *drawn]))

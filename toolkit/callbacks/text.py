"""The families that are judged from text alone, by plain Python in a child process."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isnan
from typing import Any, TypeVar

import numpy as np

from toolkit.complaints import Complaints
from toolkit.errors import ToolkitError
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.text.evaluation import Request
from toolkit.text.process import TextProcess

TEXT_NEEDS = {
    "text": ("completions", "prompts?", "group_ids?"),
    "task": ("completions", "references|prompts", "group_ids?"),
}
"""The fields that each family reads, as in `toolkit.families.NEEDS`."""

_Text = TypeVar("_Text")

_SHARES = {
    "completions/distinct_1": "distinct_1",
    "completions/distinct_2": "distinct_2",
    "completions/unique_fraction": "unique",
}
_MEANS = {
    "completions/repetition_fraction": "repetitive",
    "completions/compression_ratio": "compression_ratio",
    "task/answer_correct": "answer_correct",
    "task/reasoning_complete": "reasoning_complete",
    "task/unsupported_rate": "unsupported",
}


class TextMetrics:
    """The values of `text` and `task`, for one worker thread, which waits for the child."""

    def __init__(self, settings: Metrics) -> None:
        self._settings = settings
        self._process = TextProcess(settings.task.deadline_s)

    def values(self, rollout: Rollout, families: frozenset[str], step: int, complaints: Complaints) -> dict[str, float]:
        """The metrics of the families that the rollout has the texts for, by key."""
        sums = self.sums(rollout, families, step, complaints)
        return {key: total / count for key, (total, count) in sums.items() if count}

    def sums(
        self, rollout: Rollout, families: frozenset[str], step: int, complaints: Complaints
    ) -> dict[str, tuple[float, float]]:
        """What each of these metrics is the ratio of, so that those of several processes can be added."""
        found: dict[str, tuple[float, float]] = {}
        for family in sorted(families):
            ratio = getattr(self._settings, family).sampling_ratio
            request = self._request(rollout, family, sampled_prompts(rollout, ratio, step))
            evaluated = self._process.evaluate(request)
            for error in evaluated["errors"]:
                complaints.add(f"{family}/", ToolkitError(error))
            found |= _sums(evaluated)
        return found

    def close(self) -> None:
        """End the child process."""
        self._process.close()

    def _request(self, rollout: Rollout, family: str, rows: Sequence[int]) -> Request:
        groups = group_of_each(rollout)
        tags = self._settings.format.tags
        return Request(
            completions=_taken(rollout.completions, rows) or [],
            prompts=_taken(rollout.prompts, rows),
            references=_taken(rollout.references, rows),
            groups=None if groups is None else [int(groups[row]) for row in rows],
            families=(family,),
            reasoning_tag=tags[0],
            answer_tag=tags[-1],
        )


def sampled_prompts(rollout: Rollout, ratio: float, step: int) -> list[int]:
    """The rows of a share of the prompts, drawn by the step alone; without groups, each row is one."""
    size = len(rollout.completions or ())
    groups = group_of_each(rollout)
    own = np.arange(size) if groups is None else groups
    prompts = np.unique(own)
    drawn = np.random.default_rng(step).permutation(prompts)[: ceil(ratio * len(prompts))]
    return [int(row) for row in np.flatnonzero(np.isin(own, drawn))]


def group_of_each(rollout: Rollout) -> np.ndarray | None:
    """The group of each completion, if groups are known."""
    if rollout.group_ids is not None:
        return np.asarray(rollout.group_ids).astype(int)
    if rollout.group_size is not None:
        return np.arange(len(rollout.completions or ())) // rollout.group_size
    if rollout.prompts is not None:
        first: dict[str, int] = {}
        return np.array([first.setdefault(prompt, row) for row, prompt in enumerate(rollout.prompts)], int)
    return None


def _taken(column: Sequence[_Text] | None, rows: Sequence[int]) -> list[_Text] | None:
    return None if column is None else [column[row] for row in rows]


def _sums(evaluated: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Of shares and means, the total and the count."""
    pairs = {key: evaluated[name] for key, name in _SHARES.items() if name in evaluated}
    for key, name in _MEANS.items():
        if name in evaluated:
            judged = [number for number in evaluated[name] if not isnan(number)]
            pairs[key] = (sum(judged), len(judged))
    return pairs

"""What a run logs: a `Record` is one row of one stream, and a `Value` is what stands in one of its columns.

The type of a value is in the value itself, so a sink matches on it and nothing is inferred from a key's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts over fixed bins, so that histograms of two batches merge by adding their counts.

    `edges` has one entry more than `counts` and rises strictly; values below the first or above the last edge
    are counted in the outermost bins.
    """

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under named columns, for example the completions of one step."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | float | None]]


@dataclass(frozen=True, slots=True)
class Text:
    """Markdown text."""

    text: str


@dataclass(frozen=True, slots=True)
class HParams:
    """The settings of a run, flat: dotted key to value."""

    values: Mapping[str, str | float | bool | None]


Value: TypeAlias = float | Histogram | Table | Text | HParams


@dataclass(frozen=True, slots=True)
class Record:
    """One row of one stream.

    A held-out result arrives late by nature: it was measured on the policy of `policy_step` and logged at `step`.
    Every backend shows a record at `policy_step`; for a training step both are the same. `time` is in seconds
    since the epoch.
    """

    stream: str
    step: int
    policy_step: int
    time: float
    values: Mapping[str, Value] = field(default_factory=dict)

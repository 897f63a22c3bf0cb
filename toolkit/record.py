"""What a run logs: a `Record` is one row of one stream, and a `Value` is what stands in one of its columns.

The type of a value is in the value itself, so a sink matches on it and nothing is inferred from a key's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture: `pixels` [height, width] in grey or [height, width, channels] with 1, 3 (RGB) or 4 (RGBA) channels.

    Bytes, or floats from 0 to 1.
    """

    pixels: np.ndarray
    caption: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Moving pictures: `frames` [time, height, width, channels], each as the pixels of an `Image`, `fps` a second."""

    frames: np.ndarray
    fps: float = 10.0
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or directory that belongs to the run, such as a saved model: it stays at `path`, backends take a copy.

    `kind` sorts artifacts ("model", "file"); `sha256` is the checksum of its content, in hexadecimal.
    """

    name: str
    path: Path
    kind: str = "file"
    sha256: str = ""
    metadata: Mapping[str, str | float | bool | None] = field(default_factory=dict)


Value: TypeAlias = float | Histogram | Table | Text | Image | Video | Artifact | HParams


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

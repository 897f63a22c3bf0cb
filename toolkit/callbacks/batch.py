"""Batches of any kind: their aggregates, and a few of their rows as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from toolkit.callbacks import StepEvent
from toolkit.compilation import count_compilation, nans_allowed
from toolkit.complaints import Complaints
from toolkit.errors import RolloutError
from toolkit.hold import hold_all
from toolkit.measurement import Measurement, Statistics
from toolkit.metrics.batch import batch_metrics
from toolkit.record import Table
from toolkit.rollout import Arrays, bucket, padded
from toolkit.settings.callbacks import Batch

_KINDS = {
    "rewards": ("reward", "return"),
    "similarity": ("similarity",),
    "losses": ("loss",),
    "gradient_norms": ("grad",),
}
"""What a name of each kind contains."""


class BatchCallback:
    """Logs `StepEvent.batch`: arrays [batch] become aggregates, scalars pass through, texts are for the samples only.

    | key | what |
    |---|---|
    | `batch/NAME/mean`, `std`, `min`, `max` | of an array |
    | `batch/NAME/success_rate` | of an array of bools, or of one with a threshold in `batch.success` |
    | `batch/NAME` | a scalar |
    | `samples/batch` | a table of rows that the step draws (stream `samples`) |
    """

    def __init__(self, settings: Batch) -> None:
        self._settings = settings

    def on_step(self, event: StepEvent) -> None:
        """Take hold of the batch when something of it is due; the worker does the rest."""
        aggregate = self._settings.due(event.step)
        sample = self._settings.enabled and self._settings.samples.due(event.step)
        if event.batch is None or not (aggregate or sample):
            return
        batch_of, lean = hold_all(dict(event.batch)), event.lean()
        if aggregate:
            event.logger.log(event.step, lambda: self._aggregates(batch_of(), lean.logger.complaints))
        if sample:
            event.logger.log(event.step, lambda: self._samples(batch_of(), lean), stream="samples")

    def _aggregates(self, batch: Mapping[str, Any], complaints: Complaints) -> dict[str, Any]:
        wanted = {name: value for name, value in batch.items() if getattr(self._settings, kind(name))}
        columns = _columns(wanted, complaints)
        values = {f"batch/{name}": value for name, value in wanted.items() if _is_scalar(value)}
        try:
            values |= measure_batch(columns, self._settings.success).values()
        except RolloutError as error:  # the scalars are right all the same
            complaints.add("a batch", error)
        return values

    def _samples(self, batch: Mapping[str, Any], event: StepEvent) -> dict[str, Table]:
        columns = {
            **_columns(batch, event.logger.complaints),
            **{name: value for name, value in batch.items() if _is_text(value)},
        }
        size = _size(columns)
        drawn = sampled_rows(size, self._settings.samples.rows, event.step)
        table = {"row": drawn, **{name: [_cell(column[row]) for row in drawn] for name, column in columns.items()}}
        return {"samples/batch": Table(tuple(table), list(zip(*table.values(), strict=True)))} if drawn else {}


def kind(name: str) -> str:
    """The switch of the configuration that an array or a scalar of this name belongs to."""
    found = (kind for kind, words in _KINDS.items() if any(word in name.lower() for word in words))
    return next(found, "other")


def sampled_rows(size: int, rows: int, step: int) -> list[int]:
    """Which rows of a batch a step shows, in order: all where there are no more; the same step draws the same."""
    drawn = np.random.default_rng(step).choice(size, min(rows, size), replace=False)
    return sorted(drawn.tolist())


def measure_batch(columns: Mapping[str, Any], success: Mapping[str, float]) -> Measurement:
    """The aggregates of arrays [batch] of one length, by name. Raises `RolloutError` where they differ in length."""
    rows = bucket(_size(columns))
    have = padded({name: np.asarray(column) for name, column in columns.items()}, rows)
    thresholds = tuple(sorted((name, success[name]) for name in success if name in columns))
    with nans_allowed():
        measurement: Measurement = _measured(have, np.arange(rows) < _size(columns), thresholds)
    return measurement


@partial(jax.jit, static_argnums=2)
def _measured(have: Arrays, rows: jax.Array, thresholds: tuple[tuple[str, float], ...]) -> Measurement:
    count_compilation()
    return Statistics(batch_metrics(have, rows, dict(thresholds))).finished()


def _columns(batch: Mapping[str, Any], complaints: Complaints) -> dict[str, np.ndarray]:
    """The arrays [batch] of a batch; one of another shape costs only itself."""
    columns = {}
    for name, value in batch.items():
        if _is_scalar(value) or _is_text(value):
            continue
        try:
            columns[name] = _column(name, value)
        except RolloutError as error:
            complaints.add("a part of a batch", error)
    return columns


def _column(name: str, value: Any) -> np.ndarray:
    """The array as bools or float32, which bfloat16 and whole numbers of 64 bits become here; raises `RolloutError`."""
    try:
        column = np.asarray(value)
        column = column if column.dtype == bool or column.dtype.kind in "US" else column.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise RolloutError(f"batch[{name!r}] is not an array of numbers: {error}") from error
    if column.ndim != 1 or column.dtype.kind not in "bf":
        raise RolloutError(
            f"batch[{name!r}] has shape {column.shape} and dtype {column.dtype}: expected numbers or bools [batch], "
            "a scalar, or a list of texts"
        )
    return column


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (list, tuple)) and np.ndim(value) == 0


def _size(columns: Mapping[str, Any]) -> int:
    """The length that all columns have; 0 without any."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise RolloutError(f"the arrays of a batch must have one length, got {sizes}")
    return next(iter(sizes.values()), 0)


def _is_text(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(entry, str) for entry in value)


def _cell(entry: Any) -> Any:
    return entry if isinstance(entry, str) else entry.item()

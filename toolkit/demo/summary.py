"""What came of a run, read back from its journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from toolkit.callbacks.observer import Observer
from toolkit.record import Record
from toolkit.sinks import jsonl

_ROWS = (
    "rewards/total/mean",
    "rewards/correct/mean",
    "rewards/format/mean",
    "rewards/brevity/mean",
    "groups/zero_std_fraction",
    "policy/entropy",
    "policy/kl_ref_k3",
    "sampler/kl_k3",
    "completions/length_mean",
    "completions/truncated_fraction",
    "format/strict",
    "time/step_s",
    "throughput/tokens_per_s",
)
_HELD_OUT = ("heldout/sums/accuracy", "heldout/sums/format_strict")
_WINDOW = 10


def summary(journal: Path, observer: Observer) -> Table:
    """Start and end of the main metrics, the held-out results with their errors, and what observing cost.

    Start and end of a training metric are means of the first and last ten steps; a held-out one is a single
    validation, with its standard error.
    """
    records = list(jsonl.read(journal))
    table = Table("metric", "start", "end", title="The run", title_justify="left")
    for key in _ROWS:
        series = _series(records, key)
        if series:
            table.add_row(key, _mean(series[:_WINDOW]), _mean(series[-_WINDOW:]))
    table.add_section()
    for key in _HELD_OUT:
        means, errors = _series(records, key), _series(records, f"{key}_se")
        if means:
            table.add_row(key, *(f"{means[end]:.3f} ± {errors[end]:.3f}" for end in (0, -1)))
    table.add_section()
    cost = f"{observer.overhead_s:.2f} s, {observer.overhead_fraction:.2%} of the training"
    table.add_row("observer, on the training thread", "", cost)
    return table


def _series(records: Iterable[Record], key: str) -> list[float]:
    values = (record.values.get(key) for record in records)
    return [value for value in values if isinstance(value, float)]


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4g}"

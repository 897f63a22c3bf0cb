"""`toolkit replay PATH --log-dir RUN`: the metrics of a run that was not observed live, from what it wrote down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from toolkit import backends, build
from toolkit.config import load
from toolkit.errors import ConfigError, ToolkitError
from toolkit.options import Overrides
from toolkit.recorded_samples import wrong_families
from toolkit.recorded_trl import training_rows
from toolkit.recording import Fields, Row, fields_of, files_of, kind_of, rows_of
from toolkit.rollout import Rollout

_NOT_OF_THE_RUN = ("time", "throughput", "compute", "memory", "observer")
"""Families that would measure the replay."""

_BURST = 100


class Format(StrEnum):
    """What a recording may be; `auto` looks at it."""

    AUTO = "auto"
    TRL = "trl"
    VERL = "verl"
    PRIME_RL = "prime-rl"
    SAMPLES = "samples"


def command(
    path: Annotated[Path, typer.Argument(help="The file, or the directory with the files.")],
    log_dir: Annotated[Path, typer.Option(help="The directory of the run to make.")],
    kind: Annotated[Format, typer.Option("--format", help="Whose recording it is.")] = Format.AUTO,
    fields: Annotated[
        Path | None, typer.Option(help="YAML with the names of fields that are not the format's.")
    ] = None,
    config: Annotated[str, typer.Option(help="A preset's name or a YAML file.")] = "grpo",
    overrides: Overrides = None,
) -> None:
    """Measure recorded completions: TRL's completions_*.parquet, rollouts of verl, traces of prime-rl, our samples."""
    try:
        steps = replay(path, log_dir, kind, fields, config, overrides or ())
    except ToolkitError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{steps} steps of {path} are in {log_dir}")


def replay(
    path: Path,
    log_dir: Path,
    kind: Format = Format.AUTO,
    fields: Path | None = None,
    config: str = "grpo",
    overrides: Sequence[str] = (),
) -> int:
    """Log the metrics of a recording into a new run, and give the number of its steps.

    Raises `ConfigError` for a recording that cannot be read, naming the file, the line and the field, and for a
    directory that has a run already.
    """
    if backends.history(log_dir):
        raise ConfigError(f"{log_dir} has a run already: give another --log-dir")
    files = files_of(path)
    chosen = kind_of(files[0]) if kind is Format.AUTO else kind.value
    known = fields_of(chosen, fields)
    rows = _rows(files, chosen, known)
    wrong = wrong_families(files, known) if chosen == "samples" else ()
    off = [f"metrics.{family}.enabled=false" for family in (*_NOT_OF_THE_RUN, *wrong)]
    count = 0
    with build.observer(load(config, ["metrics.histograms.every=1", *off, *overrides]), log_dir) as observer:
        for count, (step, rollout) in enumerate(rollouts(rows, known), 1):
            observer.step(step, rollout)
            if count % _BURST == 0:  # the queue is bounded, and nothing here has to go on without waiting
                observer.logger.flush()
    return count


def _rows(files: Sequence[Path], kind: str, fields: Fields) -> Iterator[Row]:
    if files[0].match("completions_*.parquet"):
        return training_rows(files, fields)
    return chain.from_iterable(rows_of(file, kind, fields) for file in files)


def rollouts(rows: Iterator[Row], fields: Fields) -> Iterator[tuple[int, Rollout]]:
    """The rollout of each step. Raises `ConfigError` where the rows of a step do not fit together."""
    for step, found in groupby(rows, key=lambda row: row.step):
        yield step, _rollout(list(found), fields)


def _rollout(rows: Sequence[Row], fields: Fields) -> Rollout:
    first = rows[0]
    for row in rows:
        if row.rewards.keys() != first.rewards.keys():
            wanted, has = ", ".join(first.rewards) or "none", ", ".join(row.rewards) or "none"
            raise ConfigError(f"{row.where}: rewards are {has}, but those of {first.where} are {wanted}")
    return Rollout(
        rewards={name: [row.rewards[name] for row in rows] for name in first.rewards},
        weights={name: weight for row in rows for name, weight in row.weights.items()},
        prompts=[row.prompt for row in rows],
        completions=[row.completion for row in rows],
        references=_any([row.reference for row in rows]),
        advantages=_array(_all([row.advantage for row in rows])),
        mask=_mask(_all([row.length for row in rows])),
        **_groups(rows, fields),
    )


def _groups(rows: Sequence[Row], fields: Fields) -> dict[str, Any]:
    if size := fields.group_size:
        if len(rows) % size:
            raise ConfigError(f"{rows[0].where}: {len(rows)} rows in its step are no whole groups of {size}")
        return {"group_size": size}
    names = [row.prompt if row.group is None else row.group for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return {"group_ids": np.array([numbers[name] for name in names])}


def _any(values: list[Any]) -> list[Any] | None:
    return None if values.count(None) == len(values) else values


def _all(values: list[Any]) -> list[Any] | None:
    return None if None in values else values


def _array(values: list[Any] | None) -> np.ndarray | None:
    return None if values is None else np.array(values, np.float32)


def _mask(lengths: list[Any] | None) -> np.ndarray | None:
    return None if lengths is None else np.arange(max(1, *lengths)) < np.array(lengths)[:, None]

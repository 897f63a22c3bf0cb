"""Completions that other tools wrote down: TRL's parquet, verl's and prime-rl's JSONL, and our own samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, FiniteFloat, PositiveInt, ValidationError

from toolkit.errors import ConfigError
from toolkit.history import History
from toolkit.record import Table
from toolkit.settings import Section
from toolkit.validation.rows import rows

_SAMPLES = "samples/completions"
_FILES = ("completions_*.parquet", "**/traces.jsonl", "samples/completions.jsonl", "*.jsonl")
"""What a directory is searched for; the first kind that is there is read."""


class Fields(Section):
    """Where in a row something stands: the name of a column, or `outer.inner`.

    `rewards` is one or several: of numbers, or of a mapping from names to numbers, or to `{score, weight}`; empty for
    every column of numbers that is nothing else. `weights` are by the names of the rewards, 1 where neither they nor
    the row say one. `step` may be missing where it is in the path, as `step_10`. `length` is a number of tokens, or the
    tokens. The rows of a step that share `group` are a group, without it those of one prompt; `group_size` is for
    groups in consecutive rows.
    """

    step: str = "step"
    prompt: str = "prompt"
    completion: str = "completion"
    reference: str | None = None
    rewards: tuple[str, ...] = ()
    weights: dict[str, FiniteFloat] = Field(default_factory=dict)
    advantage: str | None = None
    length: str | None = None
    group: str | None = None
    group_size: PositiveInt | None = None


FORMATS = {
    "trl": Fields(advantage="advantage"),
    "verl": Fields(prompt="input", completion="output", reference="gts", rewards=("score",)),
    "prime-rl": Fields(rewards=("rewards",), length="length", group="group"),
    "samples": Fields(reference="reference", advantage="advantage"),
}
"""The fields of each format; those of prime-rl are of its traces as `_flat` lays them out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One completion: `where` it stands, for people, and what is known of it."""

    where: str
    step: int
    prompt: str
    completion: str
    rewards: dict[str, float | None]
    weights: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    advantage: float | None = None
    length: int | None = None
    group: str | None = None


def fields_of(kind: str, path: Path | None) -> Fields:
    """The fields of a format, changed by a YAML file. Raises `ConfigError` for a file that says something else."""
    if path is None:
        return FORMATS[kind]
    try:
        given = yaml.safe_load(path.read_text())
        return Fields.model_validate({**FORMATS[kind].model_dump(), **given})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, TypeError, ValidationError) as error:
        raise ConfigError(f"{path}: expected names of fields ({', '.join(Fields.model_fields)}): {error}") from error


def files_of(path: Path) -> list[Path]:
    """The files of a recording, in the order of the numbers in their names. Raises `ConfigError` for none."""
    found = [path] if path.is_file() else next((files for kind in _FILES if (files := list(path.glob(kind)))), [])
    if not found:
        raise ConfigError(f"{path}: no recording: expected a file, or a directory with {', '.join(_FILES)}")
    return sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in _parts(file)])


def _parts(file: Path) -> list[str]:
    return [part for part in re.split(r"(\d+)", str(file)) if part]


def kind_of(file: Path) -> str:
    """The format of a file, by its name and its first row."""
    if file.suffix == ".parquet":
        return "trl"
    first = next((row for _, row in rows(str(file))), {})
    if {"stream", "values"} <= first.keys() or "session" in first:
        return "samples"
    if {"nodes", "rewards"} <= first.keys():
        return "prime-rl"
    return "verl" if "output" in first else "trl"


def rows_of(file: Path, kind: str, fields: Fields) -> Iterator[Row]:
    """The rows of a file. Raises `ConfigError` naming the file, the line and the field that is wrong."""
    for where, row in _READERS[kind](file):
        yield _row(where, file, row, fields)


def _row(where: str, file: Path, row: Mapping[str, Any], fields: Fields) -> Row:
    rewards, weights = _rewards(where, row, fields)
    optional = {name: _found(row, path) for name in ("reference", "group") if (path := getattr(fields, name))}
    advantage = _found(row, fields.advantage) if fields.advantage else None
    length = _found(row, fields.length) if fields.length else None
    return Row(
        where=where,
        step=_step(where, file, row, fields),
        prompt=_text(_needed(where, row, "prompt", fields)),
        completion=_text(_needed(where, row, "completion", fields)),
        rewards=rewards,
        weights=weights,
        advantage=None if advantage is None else _number(where, fields.advantage or "", advantage),
        length=len(length) if isinstance(length, list) else length,
        **{name: None if value is None else str(value) for name, value in optional.items()},
    )


def _step(where: str, file: Path, row: Mapping[str, Any], fields: Fields) -> int:
    in_path = re.search(r"step_?(\d+)", str(file))
    if _found(row, fields.step) is None and in_path:
        return int(in_path.group(1))
    return int(_number(where, fields.step, _needed(where, row, "step", fields)) or 0)


def _needed(where: str, row: Mapping[str, Any], name: str, fields: Fields) -> Any:
    path = getattr(fields, name)
    value = _found(row, path)
    if value is None:
        raise ConfigError(f"{where}: no field {path!r} for the {name}; it has {', '.join(row)}: name it in --fields")
    return value


def _found(row: Any, path: str) -> Any:
    if isinstance(row, Mapping) and path in row:
        return row[path]
    head, _, rest = path.partition(".")
    return _found(row.get(head), rest) if rest and isinstance(row, Mapping) else None


def _rewards(where: str, row: Mapping[str, Any], fields: Fields) -> tuple[dict[str, float | None], dict[str, float]]:
    rewards: dict[str, float | None] = {}
    weights: dict[str, float] = {}
    for path in fields.rewards or _other_numbers(row, fields):
        value = _found(row, path)
        if value is None and path not in row:
            raise ConfigError(f"{where}: no field {path!r} for a reward; it has {', '.join(row)}: name it in --fields")
        named = value if isinstance(value, Mapping) else {path.rpartition(".")[2]: value}
        for name, given in named.items():
            if isinstance(given, Mapping):
                weights[name] = float(given.get("weight", 1.0))
            score = given.get("score") if isinstance(given, Mapping) else given
            rewards[name] = _number(where, f"{path}.{name}" if named is value else path, score)
    if unknown := sorted(fields.weights.keys() - rewards.keys()):
        known = ", ".join(rewards) or "none"
        raise ConfigError(f"{where}: weights are of {', '.join(unknown)}, but the rewards are {known}: see --fields")
    return rewards, {**weights, **fields.weights}


def _other_numbers(row: Mapping[str, Any], fields: Fields) -> list[str]:
    known = set(fields.model_dump(exclude={"rewards", "weights", "group_size"}).values())
    return [name for name, value in row.items() if name not in known and (value is None or _is_number(value))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(where: str, path: str, value: Any) -> float | None:
    if value is not None and not isinstance(value, (int, float)):
        raise ConfigError(f"{where}: {path!r} is {value!r:.60}: expected a number")
    return None if value is None else float(value)


def _text(value: Any) -> str:
    """A text; of a conversation what its messages say, a line each."""
    if isinstance(value, str):
        return value
    messages = value if isinstance(value, list) else [value]
    return "\n".join(
        str(message.get("content") or "") if isinstance(message, Mapping) else str(message) for message in messages
    )


def _plain(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in rows(str(file)):
        yield where, {name: _not_nan(value) for name, value in row.items()}


def _not_nan(value: Any) -> Any:
    """pandas writes None among numbers as NaN."""
    return None if isinstance(value, float) and value != value else value


def _traces(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in rows(str(file)):
        yield where, _flat(row)


def _flat(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace of prime-rl with what was said as `prompt` and `completion`, and its sampled tokens and its group."""
    nodes = trace.get("nodes") or []
    said = [node.get("message") or {} for node in nodes]
    first = next((number for number, message in enumerate(said) if message.get("role") == "assistant"), len(said))
    masks = [node.get("mask") for node in nodes if node.get("mask")]
    task = trace.get("task") or {}
    group = trace.get("group_id") or task.get("key") or task.get("hash")
    length = sum(map(sum, masks)) if masks else None
    return {**trace, "prompt": said[:first], "completion": said[first:], "group": group, "length": length}


def _samples(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for record in History(file).records():
        table = record.values.get(_SAMPLES)
        if isinstance(table, Table):
            for number, cells in enumerate(table.rows, 1):
                yield (
                    f"step {record.step}, row {number}",
                    {"step": record.step, **dict(zip(table.columns, cells, strict=True))},
                )


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Mapping[str, Any]]]]] = {
    "trl": _plain,
    "verl": _plain,
    "prime-rl": _traces,
    "samples": _samples,
}

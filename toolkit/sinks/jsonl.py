"""The journal: one JSON line a record, appended and never rewritten. It is the truth; other backends are views of it.

A line is written with one system call and no buffer of ours, so a killed process loses no record that was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from toolkit.record import Histogram, HParams, Record, Table, Text, Value

_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class JsonlSink:
    """Appends to `path`, which is created if it is not there; readable by others at any time."""

    def __init__(self, path: Path) -> None:
        self.name = f"the journal {path}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        # A line that an earlier process was killed in the middle of must not swallow the next one.
        self._torn = os.fstat(self._file).st_size > 0

    def write(self, records: Sequence[Record]) -> None:
        """Append their lines in one call. Raises OSError when the disk does not take them, or the file was deleted."""
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(f"{self.name} was deleted while it was written")
        lines = b"".join(encode(record) for record in records)
        # Readers skip empty lines, so a needless line end after a restart costs one byte.
        data = b"\n" + lines if self._torn else lines
        self._torn = True
        written = os.write(self._file, data)
        if written < len(data):
            raise OSError(f"the disk took {written} of {len(data)} bytes of journal lines")
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def encode(record: Record) -> bytes:
    """One line of JSON with its line end."""
    row = {
        "stream": record.stream,
        "step": record.step,
        "policy_step": record.policy_step,
        "time": record.time,
        "values": {_plain(key): _encoded(value) for key, value in record.values.items()},
    }
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def read(path: Path) -> Iterator[Record]:
    """The records of a journal in the order of writing; a torn or empty line is passed over."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            values = {key: _decoded(value) for key, value in row["values"].items()}
            yield Record(row["stream"], row["step"], row["policy_step"], row["time"], values)


def _encoded(value: Value) -> Any:
    match value:
        case Histogram():
            used = np.flatnonzero(value.counts)
            first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
            counts, edges = value.counts[first : last + 1], value.edges[first : last + 2]
            return {"histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}
        case Table():
            return {"table": {"columns": value.columns, "rows": [[_cell(cell) for cell in row] for row in value.rows]}}
        case Text():
            return {"text": _plain(value.text)}
        case HParams():
            return {"hparams": {key: _cell(setting) for key, setting in value.values.items()}}
        case float() | int():
            return _number(value)
        case _:
            raise TypeError(f"a value of type {type(value).__name__} cannot be written into the journal yet")


def _decoded(value: Any) -> Value:
    match value:
        case {"histogram": {"counts": counts, "edges": edges}}:
            return Histogram(np.asarray(counts), np.asarray(edges))
        case {"table": {"columns": columns, "rows": rows}}:
            return Table(tuple(columns), rows)
        case {"text": text}:
            return Text(text)
        case {"hparams": values}:
            return HParams(values)
        case str():
            return _NON_FINITE[value]
        case _:
            return float(value)


def _number(value: float) -> float | str:
    """JSON knows no NaN and no infinity: they are written as strings and read back as what they were."""
    if value - value == 0.0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    """The text with lone surrogates, which are not valid Unicode, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")

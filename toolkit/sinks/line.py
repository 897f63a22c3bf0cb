"""A record as one line of JSON, and back. Pictures are files beside the journal, and the line says where."""

from __future__ import annotations

import hashlib
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from toolkit.media import gif, png
from toolkit.names import valid
from toolkit.own_log import log as _log
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks.file_name import file_name

_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_FLOATS = frozenset({float})
_LARGEST_INTEGER = 2**63 - 1


def encode(record: Record, directory: Path) -> bytes:
    """One line of JSON with its line end, for a journal in `directory`, where pictures are stored under `media/`.

    Raises OSError when a picture cannot be stored, and TypeError for a value of no known type.
    """
    line = _of_numbers(record)
    if line is not None:
        return line
    values = {
        key: value if type(value) is float and math.isfinite(value) else _encoded(key, value, record, directory)
        for key, value in record.values.items()  # most are such floats
    }
    return _dumped(record, values)


def parsed(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None for an empty line and for one that was torn when a process was killed."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def decode(row: Mapping[str, Any], directory: Path) -> Record:
    """The record of a parsed line of the journal in `directory`."""
    values = row["values"]
    if not _FLOATS.issuperset(map(type, values.values())):
        decoded = {key: _decoded(value, directory) for key, value in values.items()}
        values = {key: value for key, value in decoded.items() if value is not None}
    return Record(row["stream"], row["step"], row["policy_step"], row["time"], values)


def _of_numbers(record: Record) -> bytes | None:
    """The line of a record that has only finite numbers, as nearly all have: at a tenth of the cost of any other."""
    values = record.values.values()
    if not _FLOATS.issuperset(map(type, values)) or not math.isfinite(sum(values)):  # type: ignore[arg-type]  # floats
        return None
    return _dumped(record, record.values)


def _dumped(record: Record, values: Mapping[str, Any]) -> bytes:
    row = {
        "stream": record.stream,
        "step": record.step,
        "policy_step": record.policy_step,
        "time": record.time,
        "values": values,
    }
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _encoded(key: str, value: Value, record: Record, directory: Path) -> Any:
    match value:
        case float() | int():
            return _number(value)
        case Histogram():
            return {"histogram": _histogram(value)}
        case Table():
            rows = [[_cell(cell) for cell in row] for row in value.rows]
            return {"table": {"columns": [valid(column) for column in value.columns], "rows": rows}}
        case Text():
            return {"text": valid(value.text)}
        case HParams():
            return {"hparams": _cells(value.values)}
        case Image():
            path = _stored(png(value), f"{record.policy_step:08d}.{file_name(key)}", ".png", directory)
            return {"image": {"path": path, "caption": valid(value.caption)}}
        case Video():
            path = _stored(gif(value), f"{record.policy_step:08d}.{file_name(key)}", ".gif", directory)
            return {"video": {"path": path, "fps": value.fps, "caption": valid(value.caption)}}
        case Artifact():
            return {"artifact": _artifact(value, directory)}
        case _:
            raise TypeError(f"a value of type {type(value).__name__} cannot be written into the journal")


def _decoded(value: Any, directory: Path) -> Value | None:
    """The value; None when it was a picture whose file is gone."""
    match value:
        case str():
            return _NON_FINITE[value]
        case {"histogram": {"counts": counts, "edges": edges}}:
            return Histogram(np.asarray(counts, float), np.asarray(edges, float))
        case {"table": {"columns": columns, "rows": rows}}:
            return Table(tuple(columns), [[_decoded_cell(cell) for cell in row] for row in rows])
        case {"text": text}:
            return Text(text)
        case {"hparams": values}:
            return HParams(_decoded_cells(values))
        case {"image": {"path": path, "caption": caption}}:
            frames = _frames(directory / path)
            return None if frames is None else Image(frames[0], caption)
        case {"video": {"path": path, "fps": fps, "caption": caption}}:
            frames = _frames(directory / path)
            return None if frames is None else Video(frames, fps, caption)
        case {"artifact": artifact}:
            metadata = _decoded_cells(artifact["metadata"])
            return Artifact(**{**artifact, "path": directory / artifact["path"], "metadata": metadata})
        case _:
            return float(value)


def _number(value: float) -> float | str:
    """JSON knows no NaN and no infinity: they are written as strings and read back as what they were."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _histogram(value: Histogram) -> dict[str, list[float | str]]:
    """Counts and edges without the empty bins at both ends, which can be most of them."""
    used = np.flatnonzero(value.counts)
    first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
    counts, edges = value.counts[first : last + 1], value.edges[first : last + 2]
    return {
        "counts": [_number(count) for count in counts.tolist()],
        "edges": [_number(edge) for edge in edges.tolist()],
    }


def _artifact(value: Artifact, directory: Path) -> dict[str, Any]:
    path = value.path.absolute()
    # A run's directory may be moved, and what is in it with it.
    kept = path.relative_to(directory) if path.is_relative_to(directory) else path
    return {
        "name": valid(value.name),
        "path": valid(kept.as_posix()),
        "kind": valid(value.kind),
        "sha256": value.sha256,
        "metadata": _cells(value.metadata),
    }


def _cells(values: Mapping[str, Any]) -> dict[str, Any]:
    return {valid(key): _cell(value) for key, value in values.items()}


def _cell(value: Any) -> Any:
    """A cell as JSON; a number that is not finite is marked, as beside texts "NaN" alone could be one."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST_INTEGER:
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        number = _number(float(value))
        return {"number": number} if isinstance(number, str) else number
    return valid(str(value))


def _decoded_cells(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _decoded_cell(value) for key, value in values.items()}


def _decoded_cell(cell: Any) -> Any:
    return _NON_FINITE[cell["number"]] if isinstance(cell, dict) else cell


def _stored(data: bytes, name: str, ending: str, directory: Path) -> str:
    """Where under `directory` the bytes are now; the name has their checksum, so writing them again changes nothing."""
    path = directory / "media" / f"{name}.{hashlib.sha256(data).hexdigest()[:12]}{ending}"
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".part")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return path.relative_to(directory).as_posix()


def _frames(path: Path) -> np.ndarray | None:
    """The pictures in a file, [time, height, width] or with channels behind; None when it is not there."""
    from PIL import Image as Picture  # 40 ms, which only a run with pictures spends
    from PIL import ImageSequence

    try:
        with Picture.open(path) as file:
            # The frames of a GIF have palettes of their own; a picture keeps the form in which it was written.
            frames = [
                np.asarray(frame.convert("RGB") if path.suffix == ".gif" else frame)
                for frame in ImageSequence.Iterator(file)
            ]
    except OSError as error:
        _log.warning("a picture of the journal cannot be read and is left out: %s", error)
        return None
    return np.stack(frames)

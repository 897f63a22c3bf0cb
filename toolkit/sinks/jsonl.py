"""The journal: one JSON line a record, appended and never rewritten. It is the truth; other backends are views of it.

A burst is written with one system call and no buffer of ours, so a killed process loses no record that was written.
A journal that is full gets a number: `metrics.000001.jsonl` is the oldest part of `metrics.jsonl`, which is the newest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson

from toolkit.record import Record
from toolkit.sinks.appending import append
from toolkit.sinks.line import decode, encode, parsed

SEGMENT_BYTES = 256 * 2**20
"""A journal that has reached this size goes on in a new file."""


class JsonlSink:
    """Appends to `path`, which is created if it is not there; readable by others at any time.

    The streams that `apart` names have journals of their own. Where the run has rows already, the first write of this
    session to each journal begins with a line that says so and is no record: `{"session": ...}`.
    """

    prompt = True

    def __init__(self, path: Path, apart: Mapping[str, Path] | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.name = f"the journal {path}"
        # A training script may change its working directory.
        self._path = path.absolute()
        self._apart = {stream: other.absolute() for stream, other in (apart or {}).items()}
        self._segment_bytes = segment_bytes
        journals = [self._path, *self._apart.values()]
        for journal in journals:
            journal.parent.mkdir(parents=True, exist_ok=True)
            journal.touch()
        resumed = any(_full_segments(journal) or journal.stat().st_size for journal in journals)
        mark = orjson.dumps({"session": time.time()}, option=orjson.OPT_APPEND_NEWLINE) if resumed else b""
        # A line that an earlier process was killed in the middle of must not swallow the next one.
        self._headings = {journal: mark if _ends_whole(journal) else b"\n" + mark for journal in journals}

    def write(self, records: Sequence[Record]) -> None:
        """Append their lines: all, or none of them.

        Raises OSError when the disk does not take them, or the journal was deleted.
        """
        lines: dict[Path, list[bytes]] = {}
        for record in records:
            journal = self._apart.get(record.stream, self._path)
            line = encode(record, journal.parent)
            lines.setdefault(journal, [self._headings.get(journal, b"")]).append(line)
        parts = {journal: b"".join(lines) for journal, lines in lines.items()}
        for journal, data in parts.items():
            self._make_room(journal, len(data))
        append(parts)
        for journal in parts:
            self._headings.pop(journal, None)

    def close(self) -> None:
        """Nothing is held back and nothing is open."""

    def _make_room(self, journal: Path, more: int) -> None:
        try:
            size = journal.stat().st_size
        except FileNotFoundError:
            raise FileNotFoundError(f"the journal {journal} was deleted while it was written") from None
        if size and size + more > self._segment_bytes:
            _rotate(journal)


def read(path: Path) -> Iterator[Record]:
    """The records of a journal in the order of writing, of all its segments; a torn or empty line is passed over.

    Raises FileNotFoundError when there is none.
    """
    with segments(path) as files:
        for file in files:
            for line in file:
                row = parsed(line)
                if row and "values" in row:
                    yield decode(row, path.absolute().parent)


@contextmanager
def segments(path: Path) -> Iterator[list[BinaryIO]]:
    """The files of a journal, oldest first, as they are at this moment: it may be written and rotated meanwhile."""
    with ExitStack() as stack:
        # First the active file: should it get its number just now, then it is found again under that.
        try:
            newest: list[BinaryIO] = [stack.enter_context(path.open("rb"))]
        except FileNotFoundError:  # there is none, or it has its number already and the next one is not there yet
            newest = []
        files: list[BinaryIO] = [stack.enter_context(full.open("rb")) for full in _full_segments(path)]
        files += [file for file in newest if not any(os.path.sameopenfile(file.fileno(), f.fileno()) for f in files)]
        if not files:
            raise FileNotFoundError(f"there is no journal {path}")
        yield files


def _full_segments(path: Path) -> list[Path]:
    pattern = re.compile(rf"{re.escape(path.stem)}\.\d{{6,}}{re.escape(path.suffix)}")
    full = [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)] if path.parent.exists() else []
    return sorted(full, key=_number)


def _number(segment: Path) -> int:
    return int(segment.stem.rpartition(".")[2])


def _rotate(path: Path) -> None:
    number = max(map(_number, _full_segments(path)), default=0) + 1
    full = path.with_name(f"{path.stem}.{number:06d}{path.suffix}")
    path.rename(full)
    try:
        path.touch(exist_ok=False)
    except OSError:
        full.rename(path)
        raise


def _ends_whole(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"

"""The journal: one JSON line a record, appended and never rewritten. It is the truth; other backends are views of it.

A burst is written with one system call and no buffer of ours, so a killed process loses no record that was written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from toolkit.record import Record
from toolkit.sinks.line import decode, encode, parsed
from toolkit.sinks.segments import SegmentedFile, segments

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
        self._journal = SegmentedFile(path, segment_bytes)
        self._apart = {stream: SegmentedFile(other, segment_bytes) for stream, other in (apart or {}).items()}
        journals = [self._journal, *self._apart.values()]
        resumed = not all(journal.empty for journal in journals)
        mark = orjson.dumps({"session": time.time()}, option=orjson.OPT_APPEND_NEWLINE) if resumed else b""
        # A line that an earlier process was killed in the middle of must not swallow the next one.
        self._headings = {journal: mark if journal.ends_whole else b"\n" + mark for journal in journals}

    def write(self, records: Sequence[Record]) -> None:
        """Append their lines: all, or none of them.

        Raises OSError when the disk does not take them, or the journal was deleted.
        """
        lines: dict[SegmentedFile, list[bytes]] = {}
        for record in records:
            journal = self._apart.get(record.stream, self._journal)
            line = encode(record, journal.path.parent)
            lines.setdefault(journal, [self._headings.get(journal, b"")]).append(line)
        before: dict[SegmentedFile, int] = {}
        try:
            for journal, parts in lines.items():
                before[journal] = journal.append(b"".join(parts))
        except OSError:
            for journal, size in before.items():
                journal.cut(size)
            raise
        for journal in lines:
            self._headings.pop(journal, None)

    def close(self) -> None:
        """Let go of the files; nothing is held back."""
        for journal in (self._journal, *self._apart.values()):
            journal.close()


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

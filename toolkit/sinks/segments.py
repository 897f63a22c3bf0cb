"""A file that only grows, and goes on in numbered segments: written by one process, read by any number of others.

When `metrics.jsonl` is full it gets a number: `metrics.000001.jsonl` is its oldest part, `metrics.jsonl` the newest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from toolkit.sinks.appending import write_whole


class SegmentedFile:
    """The file at `path`, which is made with its directory if it is not there, in segments of `segment_bytes`.

    Every burst is one system call, without a buffer of ours. The file stays open: between two other system calls the
    training thread takes the interpreter each time, and opening and closing are five of them.
    """

    def __init__(self, path: Path, segment_bytes: int) -> None:
        self.path = path.absolute()  # a training script may change its working directory
        self._segment_bytes = segment_bytes
        self._file: FileIO | None = None
        self._identity = (0, 0)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def append(self, data: bytes) -> int:
        """Append all of it, or nothing; the size of the segment before, for `cut`.

        Raises OSError when the disk does not take it, or the file was deleted.
        """
        size, file = self._opened()
        if size and size + len(data) > self._segment_bytes:
            self.close()
            _rotate(self.path)
            size, file = self._opened()
        try:
            write_whole(file.fileno(), data)
        except OSError:
            file.truncate(size)
            raise
        return size

    def cut(self, size: int) -> None:
        """Take back what was appended last."""
        self._opened()[1].truncate(size)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written, in no segment."""
        return not self.path.stat().st_size and not _full(self.path)

    @property
    def ends_whole(self) -> bool:
        """Whether its last line is whole."""
        with self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _opened(self) -> tuple[int, FileIO]:
        """The size of the file that stands at the path now, and that file."""
        try:
            status = self.path.stat()
            if self._file is None or self._identity != (status.st_dev, status.st_ino):
                self.close()
                self._file = FileIO(self.path, "ab")
                self._identity = status.st_dev, status.st_ino
        except FileNotFoundError:
            self.close()
            raise FileNotFoundError(f"the journal {self.path} was deleted while it was written") from None
        return status.st_size, self._file


@contextmanager
def segments(path: Path) -> Iterator[list[BinaryIO]]:
    """The files of a journal, oldest first, as they are at this moment: it may be written and rotated meanwhile."""
    with ExitStack() as stack:
        # First the active file: should it get its number just now, then it is found again under that.
        try:
            newest: list[BinaryIO] = [stack.enter_context(path.open("rb"))]
        except FileNotFoundError:  # there is none, or it has its number already and the next one is not there yet
            newest = []
        files: list[BinaryIO] = [stack.enter_context(full.open("rb")) for full in _full(path)]
        files += [file for file in newest if not any(os.path.sameopenfile(file.fileno(), f.fileno()) for f in files)]
        if not files:
            raise FileNotFoundError(f"there is no journal {path}")
        yield files


def _full(path: Path) -> list[Path]:
    pattern = re.compile(rf"{re.escape(path.stem)}\.\d{{6,}}{re.escape(path.suffix)}")
    full = [other for other in path.parent.iterdir() if pattern.fullmatch(other.name)] if path.parent.exists() else []
    return sorted(full, key=_number)


def _number(segment: Path) -> int:
    return int(segment.stem.rpartition(".")[2])


def _rotate(path: Path) -> None:
    number = max(map(_number, _full(path)), default=0) + 1
    full = path.with_name(f"{path.stem}.{number:06d}{path.suffix}")
    path.rename(full)
    try:
        path.touch(exist_ok=False)
    except OSError:
        full.rename(path)
        raise

"""The clean history of a run: what its journals say, without what a resume at an earlier step made obsolete."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from toolkit.record import Record
from toolkit.sinks.jsonl import segments
from toolkit.sinks.line import decode, parsed

FOLLOWING = frozenset({"heldout", "samples", "system"})
"""Streams whose steps are those of the training: they do not say at which step a session goes on."""

_Session: TypeAlias = float | None
_Starts: TypeAlias = Mapping[_Session, Mapping[str, float]]


@dataclass(slots=True)
class _Span:
    """The steps of one stream in one session: the first, the newest and the highest, and whether they ever fell."""

    first: int
    newest: int
    highest: int
    falls: bool = False
    rows: int = 1

    def add(self, step: int) -> None:
        self.falls = self.falls or step < self.newest
        self.newest = step
        self.highest = max(self.highest, step)
        self.rows += 1


class _Part(NamedTuple):
    """One file of a journal, of which `size` bytes belong to this history."""

    journal: Path
    file: BinaryIO
    size: int


class _Place(NamedTuple):
    """Where a row stands: sorted by step, and rows of one step in the order of writing."""

    step: int
    part: int
    offset: int


class History:
    """The sessions that a run's journals hold at this moment: what is appended later is not read.

    A session that goes on at step s supersedes what earlier sessions logged at s or later: in the streams that follow
    the training, s is the step of its first training record; in a stream of the user's own, whose steps may be of
    another kind, that of its first record there. Where no session trains, the user's first stream stands for the
    training. Steps are those of the policy.

    Journals that do not exist are passed over. What is held in memory is a few numbers for each session and stream,
    and a place for each record of a stream whose steps fall.
    """

    def __init__(self, *journals: Path) -> None:
        self._sizes = {journal.absolute(): _sizes(journal) for journal in journals}

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return any(map(any, self._sizes.values()))

    @property
    def row_count(self) -> int:
        """How many rows the journals have, superseded ones among them."""
        return sum(span.rows for spans in self._sessions.values() for span in spans.values())

    @cached_property
    def lead(self) -> str:
        """The stream whose first record says at which step a session goes on."""
        streams = [stream for spans in self._sessions.values() for stream in spans if stream not in FOLLOWING]
        return "train" if "train" in streams or not streams else streams[0]

    @property
    def last_step(self) -> int | None:
        """The last step of the training, and of what follows it; None when nothing was logged."""
        sessions = list(self._sessions.values())
        newest = max((number for number, spans in enumerate(sessions) if self.lead in spans), default=0)
        streams = FOLLOWING | {self.lead}
        steps = [span.highest for spans in sessions[newest:] for stream, span in spans.items() if stream in streams]
        return max(steps, default=None)

    def records(self, resume_step: int | None = None) -> Iterator[Record]:
        """What holds, in each stream by rising step; with `resume_step`, what a session that goes on there leaves.

        Streams whose steps fall, as those of late held-out results may, come last: backends such as TensorBoard drop
        what is out of order.
        """
        starts = self._later_starts(resume_step)
        falling = self._falling(starts)
        unordered: list[_Place] = []
        with self._parts() as parts:
            for part, offset, session, row in _rows(parts):
                stream, step = row["stream"], row["policy_step"]
                if step >= starts[session].get(self._leader(stream), math.inf):
                    continue
                if stream in falling:
                    unordered.append(_Place(step, part, offset))
                else:
                    yield decode(row, parts[part].journal.parent)
            for place in sorted(unordered):
                yield _record(parts[place.part], place.offset)

    @cached_property
    def _sessions(self) -> dict[_Session, dict[str, _Span]]:
        """A first pass over all rows: of each session, in order, the streams and their steps."""
        sessions: dict[_Session, dict[str, _Span]] = {}
        with self._parts() as parts:
            for _, _, session, row in _rows(parts):
                spans = sessions.setdefault(session, {})
                stream, step = row["stream"], row["policy_step"]
                if stream in spans:
                    spans[stream].add(step)
                else:
                    spans[stream] = _Span(step, step, step)
        return sessions

    def _leader(self, stream: str) -> str:
        return self.lead if stream in FOLLOWING else stream

    def _later_starts(self, resume_step: int | None) -> _Starts:
        """For each session, by leading stream, the lowest step at which a later session went on."""
        lowest: dict[str, float] = {} if resume_step is None else {self.lead: resume_step}
        starts = {}
        for session, spans in reversed(self._sessions.items()):
            starts[session] = dict(lowest)
            for stream in spans.keys() - FOLLOWING:
                lowest[stream] = min(lowest.get(stream, math.inf), spans[stream].first)
        return starts

    def _falling(self, starts: _Starts) -> set[str]:
        """The streams whose steps fall somewhere in what holds."""
        falling: set[str] = set()
        reached: dict[str, float] = {}
        for session, spans in self._sessions.items():
            for stream, span in spans.items():
                before = reached.get(stream, -math.inf)
                if span.falls or span.first < before:
                    falling.add(stream)
                kept = min(span.highest, starts[session].get(self._leader(stream), math.inf))
                reached[stream] = max(before, kept)
        return falling

    @contextmanager
    def _parts(self) -> Iterator[list[_Part]]:
        # The active file may have got a number since: segments keep their order, and only the last one grows.
        with ExitStack() as stack:
            yield [
                _Part(journal, file, size)
                for journal, sizes in self._sizes.items()
                if sizes
                for file, size in zip(stack.enter_context(segments(journal)), sizes, strict=False)
            ]


def _rows(parts: list[_Part]) -> Iterator[tuple[int, int, _Session, dict[str, Any]]]:
    """Of every row its part, its offset there, its session and itself."""
    session: _Session = None
    for number, part in enumerate(parts):
        if number and part.journal != parts[number - 1].journal:
            session = None
        offset = 0
        for line in part.file:
            if offset >= part.size:
                break
            row = parsed(line)
            if row and "session" in row:
                session = row["session"]
            elif row and "values" in row:
                yield number, offset, session, row
            offset += len(line)


def _record(part: _Part, offset: int) -> Record:
    part.file.seek(offset)
    row = parsed(part.file.readline())
    assert row is not None, f"{part.journal} was rewritten while it was read"
    return decode(row, part.journal.parent)


def _sizes(journal: Path) -> list[int]:
    try:
        with segments(journal) as files:
            return [os.fstat(file.fileno()).st_size for file in files]
    except FileNotFoundError:
        return []

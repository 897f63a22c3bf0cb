"""The TensorBoard sink: one event a record, in a file that shows every value under a tag."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2

from toolkit.own_log import log as _log
from toolkit.record import HParams, Record, Value
from toolkit.sinks import summary
from toolkit.sinks.eventfile import EventFile
from toolkit.sinks.scalars import Scalars, scalars
from toolkit.sinks.tag import tag

# A layout is made of all tags. While new ones trickle in, making it may take one part in so many of the time.
_LAYOUT_SHARE = 20

_SCALAR = (float, int, np.number, np.bool_)


class TensorBoardSink:
    """Writes records into a new event file in `log_dir`, each at the step of the policy that it measured.

    `layout` turns the scalar tags seen so far into the Custom Scalars tab; it is asked again after new ones came. The
    settings up to the first number together are the run's row in the HParams tab, as TensorBoard looks at one of them
    only. A file that was deleted is followed by a new one.

    TensorBoard drops the newer points of a tag when an older step follows them. So a value older than the
    last one under its tag is left out: `late` counts those, and the run's journal has them.

    Raises:
        OSError: the disk refused, here or in `write`. The same records can be written again.
    """

    def __init__(
        self,
        log_dir: Path,
        layout: Callable[[Collection[str]], layout_pb2.Layout] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.late = 0
        self._log_dir = log_dir
        self._file = EventFile(log_dir)
        self._last_steps: dict[str, int] = {}
        self._settings: HParams | None = None
        self._settings_shown = False
        self._begun = False
        self._layout = _PacedLayout(layout, clock) if layout else None
        self._layout_shown = layout_pb2.Layout()

    def write(self, records: Sequence[Record]) -> None:
        """Put the records into the file; they outlive this process from then on."""
        if self._file.deleted:
            self._begin_anew()
        burst = _Burst(self._last_steps, self._settings, self._begun)
        for record in records:
            burst.add(record)
        self._settings = burst.settings
        if self._layout:
            self._layout.tags |= burst.scalar_tags
        self._append(burst.events, self._layout and self._layout.when_due(), burst.begun)
        # What is remembered follows the disk, so that refused records can be written again.
        self._last_steps.update(burst.steps)
        self._begun = burst.begun
        self._count_late(burst.late)

    def close(self) -> None:
        """Write the last layout and the end of the session, and close the file."""
        end = event_pb2.Event(wall_time=time.time())
        try:
            if self._settings:
                summary.add_session_end(end.summary, end.wall_time)
            if not self._file.deleted:
                ends = [end.SerializeToString()] if self._settings else []
                self._append(ends, self._layout and self._layout.now(), begun=True)
        finally:
            self._file.close()

    def set_aside(self) -> None:
        """Rename all event files of the directory so that TensorBoard no longer reads them, and start a new one."""
        self._file.close()
        for path in self._log_dir.glob("*tfevents*"):
            path.rename(path.with_name(path.name.replace("tfevents", "superseded")))
        self._file = EventFile(self._log_dir)
        self._settings_shown, self._layout_shown = False, layout_pb2.Layout()
        self._last_steps.clear()

    def _append(self, events: Sequence[bytes], layout: layout_pb2.Layout | None, begun: bool) -> None:
        """Append the events, and what became known with them of the whole run."""
        about = event_pb2.Event(wall_time=time.time())
        settings_shown = self._settings_shown or (begun and self._settings is not None)
        if self._settings and settings_shown > self._settings_shown:
            summary.add_session_start(about.summary, self._settings, about.wall_time)
        layout = layout or self._layout_shown
        if layout != self._layout_shown:
            summary.add_layout(about.summary, layout)
        self._file.append(*events, *([about.SerializeToString()] if about.summary.value else []))
        self._settings_shown, self._layout_shown = settings_shown, layout

    def _begin_anew(self) -> None:
        deleted, self._file = self._file, EventFile(self._log_dir)
        deleted.close()
        self._settings_shown, self._layout_shown = False, layout_pb2.Layout()
        _log.warning("%s was deleted while it was written: what comes now is in %s", deleted.path, self._file.path)

    def _count_late(self, late: Sequence[Record]) -> None:
        if late and not self.late:
            _log.warning(
                "TensorBoard does not show values of %s step %d, nor others like them: newer values of their keys were "
                "written before. The run's journal has them; `toolkit export RUN --to tensorboard` rebuilds the view "
                "in order.",
                late[0].stream,
                late[0].policy_step,
            )
        self.late += len(late)


class _Burst:
    """What one write adds to the file: nothing of it is remembered by the sink before the disk took it."""

    def __init__(self, last_steps: dict[str, int], settings: HParams | None, begun: bool) -> None:
        self.events: list[bytes] = []
        self.steps: dict[str, int] = {}
        self.scalar_tags: set[str] = set()
        self.settings = settings
        self.begun = begun
        """Whether there was a number."""
        self.late: list[Record] = []
        """The record of each value that was left out."""
        self._last_steps = last_steps

    def add(self, record: Record) -> None:
        """Make events of the values that are not late."""
        numbers = {key: value for key, value in record.values.items() if type(value) is float}
        row = scalars(record.stream, tuple(numbers))
        if row is None or not self._add_scalars(row, record, numbers.values()):
            self._add_each(record, record.values)
        elif len(numbers) < len(record.values):
            self._add_each(record, {key: value for key, value in record.values.items() if key not in numbers})
        self.begun = self.begun or bool(self.scalar_tags)

    def _add_scalars(self, row: Scalars, record: Record, numbers: Iterable[float]) -> bool:
        """Those of nearly all rows; False where one is late, as each has to be looked at then."""
        step = record.policy_step
        last_steps = map(self.steps.get, row.tags, map(self._last_steps.get, row.tags, repeat(step)))
        if max(last_steps) > step:
            return False
        self.events.append(row.event(record, numbers))
        self.steps.update(dict.fromkeys(row.tags, step))
        self.scalar_tags.update(row.tags)
        return True

    def _add_each(self, record: Record, values: Mapping[str, Value]) -> None:
        step, stream = record.policy_step, record.stream
        event = event_pb2.Event(step=step, wall_time=record.time)
        add_scalar = event.summary.value.add
        for key, value in values.items():
            name = tag(stream, key)
            if step < self.steps.get(name, self._last_steps.get(name, step)):
                self.late.append(record)
                continue
            self.steps[name] = step
            if isinstance(value, _SCALAR):
                add_scalar(tag=name, simple_value=value)
                self.scalar_tags.add(name)
            else:
                self._add(event.summary, name, value)
        if event.summary.value:
            self.events.append(event.SerializeToString())

    def _add(self, values: summary_pb2.Summary, name: str, value: Value) -> None:
        summary.add(values, name, value)
        if isinstance(value, HParams) and (self.settings is None or not self.begun):
            known = self.settings.values if self.settings else {}
            self.settings = HParams({**known, **value.values})


class _PacedLayout:
    """The layout of the tags so far, made anew only after new ones came, and then at a pace."""

    def __init__(self, layout: Callable[[Collection[str]], layout_pb2.Layout], clock: Callable[[], float]) -> None:
        self.tags: set[str] = set()
        self._layout = layout
        self._clock = clock
        self._not_before = 0.0
        self._made_of = 0
        self._made = layout_pb2.Layout()

    def when_due(self) -> layout_pb2.Layout:
        """The layout as it was last made, unless it is due again."""
        return self.now() if self._clock() >= self._not_before else self._made

    def now(self) -> layout_pb2.Layout:
        """The layout of all tags so far."""
        if len(self.tags) != self._made_of:
            started = self._clock()
            self._made, self._made_of = self._layout(self.tags), len(self.tags)
            ended = self._clock()
            self._not_before = ended + _LAYOUT_SHARE * (ended - started)
        return self._made

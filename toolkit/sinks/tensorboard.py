"""The TensorBoard sink: one event a record, with every value in the form its TensorBoard tab reads."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from toolkit.record import Histogram, HParams, Record, Table, Text, Value
from toolkit.sinks.eventfile import EventFile

CELL_CHARACTERS = 1000
"""A longer cell of a table is cut here and says how much is missing."""

# Written out, because the module that names them loads TensorBoard's file system stub (0.2 s).
_HPARAMS_PLUGIN = "hparams"
_HPARAMS_TAG = "_hparams_/session_start_info"
_LAYOUT_PLUGIN = "custom_scalars"
_LAYOUT_TAG = "custom_scalars__config__"
_TEXT_PLUGIN = "text"

# TensorBoard wants a tensor even where the metadata says it all.
_NO_NUMBERS = tensor_pb2.TensorProto(
    dtype=types_pb2.DT_FLOAT,
    tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=0)]),
)

# The text tab renders Markdown and then drops every HTML tag it does not know, `<answer>` among them.
_CELL_ESCAPES = str.maketrans(
    {character: "\\" + character for character in "\\`*_[]"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\n": "<br>", "\r": None}
)

_log = logging.getLogger("toolkit")


class TensorBoardSink:
    """Writes records into a new event file in `log_dir`, each at the step of the policy that it measured.

    `layout` turns the scalar tags seen so far into the Custom Scalars tab, and is asked again whenever a
    record brings a new one. Tags are the keys; hyperparameters have a tab of their own and need no tag.

    TensorBoard drops the newer points of a tag when an older step follows them. So a value older than the
    last one under its tag is left out: `late` counts those, and the run's journal has them.

    Raises:
        OSError: the disk refused, here or in `write`. The same record can be written again.
    """

    def __init__(self, log_dir: Path, layout: Callable[[Collection[str]], layout_pb2.Layout] | None = None) -> None:
        self.late = 0
        self._log_dir = log_dir
        self._file = EventFile(log_dir)
        self._layout = layout
        self._shown_layout = layout_pb2.Layout()
        self._scalar_tags: set[str] = set()
        self._last_steps: dict[str, int] = {}

    def write(self, records: Sequence[Record]) -> None:
        """Put the records into the file; they outlive this process from then on."""
        for record in records:
            self._write(record)

    def _write(self, record: Record) -> None:
        step, last_steps = record.policy_step, self._last_steps
        values = {tag: value for tag, value in record.values.items() if step >= last_steps.get(tag, step)}
        event = event_pb2.Event(step=step, wall_time=record.time)
        for tag, value in values.items():
            _add(event.summary, tag, value)
        scalar_tags = self._scalar_tags.union(tag for tag in values if isinstance(values[tag], float | int))
        layout = self._layout_of(scalar_tags)
        if layout != self._shown_layout:
            _add_layout(event.summary, layout)
        if values:
            self._file.append(event)
        # What is remembered follows the disk, so that a refused record can be written again.
        self._last_steps.update(dict.fromkeys(values, step))
        self._scalar_tags, self._shown_layout = scalar_tags, layout
        self._count_late(len(record.values) - len(values), record)

    def close(self) -> None:
        """Close the file; everything is in it already."""
        self._file.close()

    def set_aside(self) -> None:
        """Rename all event files of the directory so that TensorBoard no longer reads them, and start a new one."""
        self._file.close()
        for path in self._log_dir.glob("*tfevents*"):
            path.rename(path.with_name(path.name.replace("tfevents", "superseded")))
        self._file = EventFile(self._log_dir)
        self._scalar_tags, self._shown_layout = set(), layout_pb2.Layout()
        self._last_steps.clear()

    def _layout_of(self, scalar_tags: Collection[str]) -> layout_pb2.Layout:
        if self._layout is None or len(scalar_tags) == len(self._scalar_tags):
            return self._shown_layout
        return self._layout(scalar_tags)

    def _count_late(self, count: int, record: Record) -> None:
        if count and not self.late:
            _log.warning(
                "TensorBoard will not show %d values of %s step %d, nor others like them: newer values of their "
                "keys were written before. The run's journal has them.",
                count,
                record.stream,
                record.policy_step,
            )
        self.late += count


def _add(summary: summary_pb2.Summary, tag: str, value: Value) -> None:
    match value:
        case float() | int():
            summary.value.add(tag=tag, simple_value=value)
        case Histogram():
            summary.value.add(tag=tag, histo=_histogram_proto(value))
        case Text(text):
            _add_tensor(summary, tag, _TEXT_PLUGIN, _utf8(text))
        case Table():
            _add_tensor(summary, tag, _TEXT_PLUGIN, _utf8(_markdown(value)))
        case HParams(values):
            metadata = _plugin_metadata(_HPARAMS_PLUGIN, _session(values).SerializeToString())
            summary.value.add(tag=_HPARAMS_TAG, metadata=metadata, tensor=_NO_NUMBERS)


def _add_layout(summary: summary_pb2.Summary, layout: layout_pb2.Layout) -> None:
    _add_tensor(summary, _LAYOUT_TAG, _LAYOUT_PLUGIN, layout.SerializeToString())


def _add_tensor(summary: summary_pb2.Summary, tag: str, plugin: str, content: bytes) -> None:
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape=tensor_shape_pb2.TensorShapeProto(), string_val=[content]
    )
    summary.value.add(tag=tag, metadata=_plugin_metadata(plugin), tensor=tensor)


def _plugin_metadata(plugin: str, content: bytes = b"") -> summary_pb2.SummaryMetadata:
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def _histogram_proto(histogram: Histogram) -> summary_pb2.HistogramProto:
    counts, edges = np.asarray(histogram.counts, float), _finite(histogram.edges)
    filled = np.flatnonzero(counts)
    if not filled.size:
        return summary_pb2.HistogramProto()
    # The empty bins at both ends would stretch the axis of the chart.
    counts, edges = counts[filled[0] : filled[-1] + 1], edges[filled[0] : filled[-1] + 2]
    middles = (edges[:-1] + edges[1:]) / 2
    return summary_pb2.HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=counts.sum(),
        sum=counts @ middles,
        sum_squares=counts @ middles**2,
        bucket_limit=edges[1:],
        bucket=counts,
    )


def _finite(edges: np.ndarray) -> np.ndarray:
    """The edges, with an infinite outermost one moved as far out as the neighbouring bin is wide."""
    limits = np.array(edges, float)
    inner = limits[np.isfinite(limits)]
    widths = np.diff(inner) if inner.size > 1 else np.ones(1)
    limits[0] = max(limits[0], inner[0] - widths[0])
    limits[-1] = min(limits[-1], inner[-1] + widths[-1])
    return limits


def _markdown(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)


def _cell(cell: str | float | None) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return f"{cell:.6g}"
    missing = len(cell) - CELL_CHARACTERS
    ending = f"… ({missing} more characters)" if missing > 0 else ""
    return cell[:CELL_CHARACTERS].translate(_CELL_ESCAPES) + ending


def _session(settings: Mapping[str, str | float | bool | None]) -> plugin_data_pb2.HParamsPluginData:
    session = plugin_data_pb2.SessionStartInfo()
    for name, setting in settings.items():
        shown = session.hparams[name]
        match setting:
            case bool():
                shown.bool_value = setting
            case float() | int() if math.isfinite(setting):
                shown.number_value = setting
            case _:
                # TensorBoard's JSON has neither a null nor a NaN here.
                shown.string_value = str(setting).encode("utf-8", "replace").decode()
    return plugin_data_pb2.HParamsPluginData(session_start_info=session)


def _utf8(text: str) -> bytes:
    # A completion can end inside a character: what is no valid Unicode becomes a question mark.
    return text.encode("utf-8", "replace")

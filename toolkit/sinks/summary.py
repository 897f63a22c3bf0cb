"""Values in the form that TensorBoard's tabs read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from toolkit.media import gif, png
from toolkit.names import valid
from toolkit.record import Artifact, Histogram, HParams, Image, Table, Text, Value, Video
from toolkit.sinks.bins import filled

CELL_CHARACTERS = 1000
"""A longer cell of a table is cut here and says how much is missing."""

TEXT_CHARACTERS = 100_000
"""So is a longer text: the server turns it into HTML each time it is looked at."""

# Written out, because the modules that name them load TensorBoard's file system stub (0.2 s).
_HPARAMS_PLUGIN = "hparams"
_SESSION_START_TAG = "_hparams_/session_start_info"
_SESSION_END_TAG = "_hparams_/session_end_info"
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


def add(summary: summary_pb2.Summary, tag: str, value: Value) -> None:
    """Put what is not a number under its tag; settings, and where an artifact is, become a table of text."""
    match value:
        case Histogram():
            summary.value.add(tag=tag, histo=_histogram_proto(value))
        case Text(text):
            _add_text(summary, tag, text)
        case Table():
            _add_text(summary, tag, _markdown(value))
        case HParams(settings):
            _add_text(summary, tag, _markdown(Table(("setting", "value"), [(k, str(v)) for k, v in settings.items()])))
        case Artifact():
            _add_text(summary, tag, _markdown(_description(value)))
        case Image(pixels, caption):
            _add_picture(summary, tag, png(value), pixels.shape[:2], caption)
        case Video(frames, _, caption):
            _add_picture(summary, tag, gif(value), frames.shape[1:3], caption)


def add_layout(summary: summary_pb2.Summary, layout: layout_pb2.Layout) -> None:
    """Put in the charts of the Custom Scalars tab; the last layout of a run is shown."""
    _add_tensor(summary, _LAYOUT_TAG, _LAYOUT_PLUGIN, layout.SerializeToString())


def add_session_start(summary: summary_pb2.Summary, settings: HParams, time: float) -> None:
    """Put in a run's row of the HParams tab; TensorBoard looks at the first one of a run only."""
    session = plugin_data_pb2.SessionStartInfo(start_time_secs=time)
    _set_hparams(session, settings.values)
    _add_session(summary, _SESSION_START_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=session))


def add_session_end(summary: summary_pb2.Summary, time: float) -> None:
    """Say in that row that the run has ended; without it the status is unknown."""
    session = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time)
    _add_session(summary, _SESSION_END_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=session))


def _add_session(summary: summary_pb2.Summary, tag: str, data: plugin_data_pb2.HParamsPluginData) -> None:
    metadata = _plugin_metadata(_HPARAMS_PLUGIN, data.SerializeToString())
    summary.value.add(tag=tag, metadata=metadata, tensor=_NO_NUMBERS)


def _add_picture(summary: summary_pb2.Summary, tag: str, file: bytes, size: tuple[int, int], caption: str) -> None:
    # TensorBoard sends the browser whatever bytes stand here; by their first letters it knows a GIF.
    picture = summary_pb2.Summary.Image(height=size[0], width=size[1], encoded_image_string=file)
    summary.value.add(tag=tag, image=picture)
    if caption:
        # The images tab has one description a tag, not one a step.
        _add_text(summary, f"{tag}/caption", caption)


def _add_text(summary: summary_pb2.Summary, tag: str, text: str) -> None:
    _add_tensor(summary, tag, _TEXT_PLUGIN, valid(_cut(text, TEXT_CHARACTERS)).encode())


def _add_tensor(summary: summary_pb2.Summary, tag: str, plugin: str, content: bytes) -> None:
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape=tensor_shape_pb2.TensorShapeProto(), string_val=[content]
    )
    summary.value.add(tag=tag, metadata=_plugin_metadata(plugin), tensor=tensor)


def _plugin_metadata(plugin: str, content: bytes = b"") -> summary_pb2.SummaryMetadata:
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def _histogram_proto(histogram: Histogram) -> summary_pb2.HistogramProto:
    counts, edges = filled(histogram)
    if not counts.any():
        return summary_pb2.HistogramProto()
    middles = (edges[:-1] + edges[1:]) / 2
    return summary_pb2.HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=counts.sum(),
        sum=counts @ middles,
        sum_squares=counts @ middles**2,
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )


def _description(artifact: Artifact) -> Table:
    known = {"artifact": artifact.name, "kind": artifact.kind, "path": str(artifact.path), "sha256": artifact.sha256}
    cells = known | dict(artifact.metadata)
    return Table(tuple(cells), [[None if cell is None else str(cell) for cell in cells.values()]])


def _markdown(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)


def _cell(cell: str | float | None) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return f"{cell:.6g}"
    return _cut(cell, CELL_CHARACTERS).translate(_CELL_ESCAPES)


def _cut(text: str, characters: int) -> str:
    missing = len(text) - characters
    return text if missing <= 0 else f"{text[:characters]}… ({missing} more characters)"


def _set_hparams(session: plugin_data_pb2.SessionStartInfo, settings: Mapping[str, str | float | bool | None]) -> None:
    for name, setting in settings.items():
        shown = session.hparams[valid(name)]
        match setting:
            case bool():
                shown.bool_value = setting
            case float() | int() if math.isfinite(setting):
                shown.number_value = setting
            case _:
                # TensorBoard's JSON has neither a null nor a NaN here.
                shown.string_value = valid(str(setting))

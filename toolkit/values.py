"""The values of a row: held as they are now on the training thread, and made those of the host on the worker's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import replace
from operator import countOf
from typing import Any, TypeAlias

import numpy as np

from toolkit.complaints import Complaints
from toolkit.media import MAX_BYTES, checked
from toolkit.names import are_ready, valid_name
from toolkit.record import Artifact, Histogram, HParams, Image, Table, Text, Value, Video

Values: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Values by key, or a function that returns them and is called on the worker thread."""

_VALUES = (Histogram, Table, Text, Artifact, HParams)
_READY = frozenset({float, *_VALUES})


def unchanging(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the mapping, and of whatever in it could still change in place before the worker reads it."""
    if _all_are(float, values.values()):
        return dict(values)
    return {key: value if type(value) is float else _copy(value) for key, value in values.items()}


def _copy(value: Any) -> Any:
    match value:
        case Mapping():
            return unchanging(value)
        case np.ndarray():
            # What is larger than any value may be is refused later, and not worth a copy.
            return value.copy() if value.nbytes <= MAX_BYTES else value
        case Histogram():
            return replace(value, counts=_copy(value.counts))
        case Table():
            return replace(value, rows=[copy(row) for row in value.rows])
        case Image():
            return replace(value, pixels=_copy(value.pixels))
        case Video():
            return replace(value, frames=_copy(value.frames))
        case _:
            return value.detach().clone() if hasattr(value, "detach") else value  # torch, not imported for this


def host_values(values: Mapping[str, Any], complaints: Complaints) -> dict[str, Value]:
    """The values under flat, valid keys, fetched and converted; one that cannot be is left out, and complained of.

    What has to be converted comes last, and wins where a key is given twice.
    """
    if not (_all_are(str, values) and are_ready(values)):
        return _converted(values, complaints)
    ready = {key: value for key, value in values.items() if type(value) in _READY}
    if len(ready) == len(values):
        return ready
    return ready | _converted({key: value for key, value in values.items() if key not in ready}, complaints)


def _converted(values: Mapping[str, Any], complaints: Complaints) -> dict[str, Value]:
    host: dict[str, Value] = {}
    for key, value in _flat(values):
        try:
            host[valid_name(key)] = _host_value(value)
        except Exception as error:  # a foreign object's conversion may raise anything
            complaints.add(f"the value of {key!r}", error)
    return host


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if type(value) is not float and isinstance(value, Mapping):  # most are floats, and the second question is slow
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _all_are(kind: type, things: Collection[object]) -> bool:
    return countOf(map(type, things), kind) == len(things)


def _host_value(value: Any) -> Value:
    if type(value) is float or isinstance(value, _VALUES):
        return value
    if isinstance(value, (Image, Video)):
        return checked(value)
    return Text(value) if isinstance(value, str) else float(value)

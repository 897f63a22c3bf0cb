"""Handlers that write in the background: rows of CSV, and TensorBoard's files. Usable with any logger, alone too."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import shutdown
from toolkit.lines.background import Background
from toolkit.lines.formatters import FIELDS, extra_fields, field_of
from toolkit.logger import Logger
from toolkit.record import Histogram
from toolkit.sinks.appending import append
from toolkit.sinks.csvfile import CsvFile, rendered
from toolkit.values import unchanging

_BINS = 64


def unchanging_record(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that another thread may format later: what the caller could still change in place is copied too."""
    held: logging.LogRecord = object.__new__(type(record))  # on the training thread, where copy.copy costs thrice that
    held.__dict__.update(record.__dict__)
    if isinstance(record.args, Mapping):
        held.args = unchanging(record.args)
    elif record.args:
        held.args = tuple(_unchanging(argument) for argument in record.args)
    held.__dict__.update({name: _unchanging(value) for name, value in extra_fields(record).items()})
    return held


def _unchanging(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, (list, set)) else unchanging({"": value})[""]


class CSVHandler(logging.Handler):
    """A row for each record, with these `columns`: fields of the record, extra ones, or names in its `metrics`.

    Rows are written when `buffer_size` of them wait, or every `every_s` seconds, on a thread of its own; the header
    comes by itself. A file that is there already is continued. A formatter's `datefmt` is that of `timestamp`. Raises
    ValueError where the file has other columns.
    """

    def __init__(
        self, filename: str | Path, columns: Sequence[str] = FIELDS, buffer_size: int = 50, every_s: float = 1.0
    ) -> None:
        super().__init__()
        self._columns = tuple(columns)
        self._file = _continued(Path(filename).absolute(), self._columns)
        self._rows = Background[logging.LogRecord]("csv", self._write, batch=buffer_size, every_s=every_s)
        shutdown.on_sigterm(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Take the record."""
        self._rows.put(unchanging_record(record))

    def flush(self) -> None:
        """Wait until every record taken so far is in the file."""
        self._rows.flush()

    def close(self) -> None:
        """Write what waits. Idempotent."""
        shutdown.forget(self.close)
        self._rows.close()
        super().close()

    def _write(self, records: Sequence[logging.LogRecord]) -> None:
        datefmt = self.formatter.datefmt if self.formatter else None
        rows = rendered([_cell(field_of(record, name, datefmt)) for name in self._columns] for record in records)
        append({self._file.path: self._file.addition(rows)})


class TensorBoardHandler(logging.Handler):
    """Puts the `metrics` of records that have some into TensorBoard's files in `log_dir`, at their `step`.

        logger.info("...", extra={"step": 120, "metrics": {"loss": 0.5, "lengths": lengths, "note": "*warm*"}})

    A number becomes a scalar, a text is shown as Markdown, an array or a list of numbers becomes a histogram; nested
    names get slashes. A record without a step is shown at the last one. Written every `every_s` seconds, on a thread of
    its own.
    """

    def __init__(self, log_dir: str | Path, every_s: float = 1.0) -> None:
        from toolkit.sinks.tensorboard import TensorBoardSink  # its protos take 0.2 s to import

        super().__init__()
        self._step = 0
        self._logger = Logger([TensorBoardSink(Path(log_dir))], burst_s=every_s, views_s=0.0)

    def emit(self, record: logging.LogRecord) -> None:
        """Take the metrics of the record."""
        metrics = getattr(record, "metrics", None)
        if not isinstance(metrics, Mapping):
            return
        self._step = int(getattr(record, "step", self._step))
        held = unchanging(metrics)
        self._logger.log(self._step, lambda: _values(held), at=record.created)

    def flush(self) -> None:
        """Wait until all metrics taken so far are in the file."""
        self._logger.flush()

    def close(self) -> None:
        """Write what waits and close the file. Idempotent."""
        self._logger.close()
        super().close()


def _continued(path: Path, columns: Sequence[str]) -> CsvFile:
    """The file with its header; rows that an earlier process wrote stay in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = CsvFile(path, columns)
    if not file.is_ready():
        with path.open(encoding="utf-8", errors="replace") as lines:
            found = lines.readline().rstrip()
        raise ValueError(
            f"{path} has the header {found!r}, and not {', '.join(columns)}: move it away, or name another file"
        )
    append({path: file.addition("")})
    return file


def _cell(value: Any) -> Any:
    return value if isinstance(value, (str, float, int)) or value is None else str(value)


def _values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in metrics.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _values(value)
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0:
        listed = value.tolist() if hasattr(value, "tolist") else value  # torch's bfloat16 and CUDA have no other way
        numbers = np.asarray(listed, float).ravel()
        return Histogram(*np.histogram(numbers[np.isfinite(numbers)], _BINS))
    return value

"""Text logs: records as lines on the loggers `training`, `metrics`, `rewards`, `model_outputs` and `system`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from toolkit.record import Artifact, HParams, Record, Table, Text, Value
from toolkit.text.reasoning import split

_NAMES = {"prompt": "question", "reference": "true_answer", "completion": "model_output"}
"""What columns of our tables are called in a log of model outputs too."""
_COMPLETION = frozenset({"completion", "model_output"})
_SHOWN = 200
"""Characters of a text that stand in a line; the whole is in the line's extra fields."""


class TextSink:
    """Hands each record on as compact lines; where they go is up to those loggers.

    | logger | what | extra fields |
    |---|---|---|
    | `training` | the loop's own scalars, `trainer/`, and times | `step`, `stream`, `metrics` |
    | `rewards` | keys under `rewards/` | the same |
    | `system` | the stream `system` | the same |
    | `metrics` | everything else | the same |
    | `model_outputs` | a line a row of each table of completions | `step`, `stream`, the cells by column |

    Rows of other tables are lines on the logger of their key. A table of completions also gives `question`,
    `true_answer`, `model_output`, `model_answer` and `model_reasoning`, split by the `tags` of reasoning and answer.
    `closing` is called by `close`.
    """

    name = "the text logs"
    prompt = True  # the last lines before the end of a process are those that somebody will look for

    def __init__(
        self, tags: tuple[str, str] = ("reasoning", "answer"), closing: Callable[[], None] | None = None
    ) -> None:
        self._tags = tags
        self._closing = closing

    def write(self, records: Sequence[Record]) -> None:
        """Log the lines of the records."""
        for record in records:
            for name, line, extra in self._lines(record):
                _log(name, line, record, extra)

    def close(self) -> None:
        """Close what is behind the loggers."""
        if self._closing:
            self._closing()

    def _lines(self, record: Record) -> Iterator[tuple[str, str, dict[str, Any]]]:
        by_logger: dict[str, dict[str, Value]] = {}
        for key, value in record.values.items():
            if isinstance(value, Table):
                name = _logger_of(key, record.stream) if _COMPLETION.isdisjoint(value.columns) else "model_outputs"
                yield from ((name, *self._row(key, value, row, record)) for row in value.rows)
            elif not isinstance(value, HParams):  # they stand in config.yaml
                by_logger.setdefault(_logger_of(key, record.stream), {})[key] = value
        for name, values in by_logger.items():
            yield name, f"{_where(record)} {_compact(name, values)}", {"metrics": values}

    def _row(self, key: str, table: Table, row: Sequence[Any], record: Record) -> tuple[str, dict[str, Any]]:
        cells = dict(zip(table.columns, row, strict=True))
        shown = " ".join(f"{name}={_shown(cell)}" for name, cell in cells.items())
        return f"{_where(record)} {key} {shown}", self._plan_names(cells) | cells

    def _plan_names(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        named = {_NAMES[name]: cell for name, cell in cells.items() if name in _NAMES}
        completion = named.get("model_output")
        if isinstance(completion, str):
            named["model_reasoning"], named["model_answer"] = split(completion, *self._tags)
        return named


def _log(name: str, line: str, record: Record, extra: Mapping[str, Any]) -> None:
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(logging.INFO):
        return
    made = logger.makeRecord(name, logging.INFO, "toolkit", 0, line, (), None)
    made.created, made.msecs = record.time, record.time % 1 * 1000
    for field, value in {"step": record.policy_step, "stream": record.stream, **extra}.items():
        taken = field in made.__dict__ or field in ("message", "asctime")
        made.__dict__[f"{field}_" if taken else field] = value
    logger.handle(made)


def _logger_of(key: str, stream: str) -> str:
    family = key.partition("/")[0]
    if stream == "system":
        return "system"
    return {"rewards": "rewards", "trainer": "training", "time": "training"}.get(family, "metrics")


def _where(record: Record) -> str:
    late = f" (ready at step {record.step})" if record.step != record.policy_step else ""
    return f"step {record.policy_step}{late}"


def _compact(logger: str, values: Mapping[str, Value]) -> str:
    """`loss=0.5 time/step_s=1.2`; what is no number and no text is only in the extra fields."""
    pairs = ((key, value.text if isinstance(value, Text) else value) for key, value in values.items())
    shown = (
        f"{key.removeprefix('trainer/').removeprefix(f'{logger}/')}={_shown(value)}"
        for key, value in pairs
        if isinstance(value, (float, int, str, Artifact))
    )
    return " ".join(shown)


def _shown(cell: Any) -> str:
    if isinstance(cell, Artifact):
        return f"{cell.kind} {cell.name} at {cell.path}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    text = repr(cell)  # on one line, whatever a completion has in it
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text) - _SHOWN} more characters)"

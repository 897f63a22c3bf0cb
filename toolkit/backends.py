"""The backends of a run, from its configuration: which sinks there are, and where in its directory they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from toolkit.config import Config
from toolkit.errors import MissingExtra, cannot_start
from toolkit.history import History
from toolkit.lines.install import InstalledLines
from toolkit.settings import Switch
from toolkit.settings.sinks import JsonlSink as JsonlSettings
from toolkit.sinks import Sink
from toolkit.sinks.console import ConsoleSink
from toolkit.sinks.csv import CsvSink
from toolkit.sinks.jsonl import JsonlSink
from toolkit.sinks.text import TextSink
from toolkit.sinks.view import Rebuildable, View

JOURNAL = "metrics.jsonl"
SAMPLES = "samples/completions.jsonl"
TENSORBOARD = "tensorboard"
CSV = "csv"

_Started = TypeVar("_Started")

_EXTRAS = {"wandb": "WandbSink", "trackio": "TrackioSink", "mlflow": "MlflowSink"}


def sinks(config: Config, log_dir: Path) -> list[Sink]:
    """All that are switched on, started. Raises `SinkError` where one cannot start, and `MissingExtra`."""
    settings = config.sinks
    # Before the journal takes its first row: the past is what stands in it now.
    past = _started("jsonl", partial(history, log_dir))
    makers: dict[str, Callable[[], Sink]] = {}
    if settings.jsonl.enabled:
        makers["jsonl"] = partial(_journal, settings.jsonl, log_dir)
    if settings.tensorboard.enabled:
        makers["tensorboard"] = lambda: _view(tensorboard(log_dir / TENSORBOARD), past)
    if settings.csv.enabled:
        makers["csv"] = lambda: _view(CsvSink(log_dir / CSV, settings.csv.columns, settings.csv.number), past)
    if settings.console.enabled:
        makers["console"] = lambda: ConsoleSink(**settings.console.model_dump(exclude={"enabled"}))
    for name, kind in _EXTRAS.items():
        section = getattr(settings, name)
        if section.enabled:
            makers[name] = partial(_extra, name, kind, section, log_dir, past)
    if settings.text.enabled:
        makers["text"] = partial(_text, config, log_dir)
    return _all_started(makers)


def history(log_dir: Path) -> History:
    """What the journals of a run hold at this moment."""
    return History(log_dir / JOURNAL, log_dir / SAMPLES)


def _journal(settings: JsonlSettings, log_dir: Path) -> Sink:
    return JsonlSink(log_dir / JOURNAL, {"samples": log_dir / SAMPLES}, settings.segment_mb * 2**20)


def _view(sink: Rebuildable, past: History) -> Sink:
    return View(sink, past) if past else sink


def _all_started(makers: Mapping[str, Callable[[], Sink]]) -> list[Sink]:
    """All of them; where one cannot start, none is left open: text loggers would stay changed."""
    with ExitStack() as undone:
        started = []
        for name, make in makers.items():
            started.append(_started(name, make))
            undone.callback(started[-1].close)
        undone.pop_all()
        return started


def _started(name: str, make: Callable[[], _Started]) -> _Started:
    try:
        return make()
    except OSError as error:
        raise cannot_start(name, f"{error.strerror}: {error.filename}") from error


def _text(config: Config, log_dir: Path) -> Sink:
    lines = InstalledLines(config.logging, log_dir)
    tags = config.metrics.format.tags
    return TextSink((tags[0], tags[-1]), closing=lines.close)


def tensorboard(log_dir: Path) -> Rebuildable:
    """The TensorBoard sink with our dashboards."""
    from toolkit.dashboards.tensorboard import layout  # its protos take 0.2 s to import: only where they are used
    from toolkit.sinks.tensorboard import TensorBoardSink

    return TensorBoardSink(log_dir, layout)


def _extra(name: str, kind: str, settings: Switch, log_dir: Path, past: History) -> Sink:
    """A sink whose library comes with the extra of its name."""
    with extra(name):
        sink: Rebuildable = getattr(import_module(f"toolkit.sinks.{name}"), kind)(
            log_dir, **settings.model_dump(exclude={"enabled"})
        )
    return _view(sink, past)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra a sink's library comes with, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"sinks.{name}: no module named {error.name}", name) from None

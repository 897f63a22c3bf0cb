"""The trackio sink: a local SQLite file with a dashboard of its own, without a server or an account."""

from __future__ import annotations

import contextvars
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from toolkit.errors import SinkError, cannot_start
from toolkit.media import gif, png
from toolkit.names import valid
from toolkit.record import Artifact, Histogram, HParams, Image, Record, Table, Text, Value, Video
from toolkit.sinks.alerts import ALERT
from toolkit.sinks.bins import drawn
from toolkit.sinks.once import Once


class TrackioSink:
    """Logs records into a trackio run that the next process continues, each at the step of its policy.

    `name` and `group` are by default the name of the run directory `log_dir`. `directory` is where trackio keeps all
    its projects; by default its own, which is where its dashboard looks. It is one for the whole process.

    trackio writes twice a second from a thread of its own and reports its errors as warnings.

    Raises:
        SinkError: trackio refuses the project's name, or works in another directory already.
    """

    name = "trackio"

    def __init__(
        self,
        log_dir: Path,
        *,
        project: str = "grpo",
        name: str | None = None,
        group: str | None = None,
        directory: Path | None = None,
    ) -> None:
        own_name = log_dir.resolve().name
        self._trackio = _trackio_in(directory)
        self._settings = {"project": project, "name": name or own_name, "group": group or own_name}
        self._once = Once(self._write)
        self._run = self._started()

    def write(self, records: Sequence[Record]) -> None:
        """Hand the records to trackio's thread."""
        self._once.write(records)

    def close(self) -> None:
        """Wait until trackio has written all."""
        self._run.finish()

    def set_aside(self) -> None:
        """Keep what was logged as a run of another name, and go on in an empty one."""
        self.close()
        (old,) = [run for run in self._trackio.Api().runs(self._run.project) if run.id == self._run.id]
        old.rename(f"{self._run.name} until {self._run.id[:8]}")
        self._run = self._started()

    def _started(self) -> Any:
        # In a context of its own: trackio ends the run that is current there, which would be the host's.
        options: dict[str, Any] = {"resume": "allow", "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        try:
            return contextvars.Context().run(lambda: self._trackio.init(**self._settings, **options))
        except ValueError as error:
            raise cannot_start("trackio", error) from error

    def _write(self, record: Record) -> None:
        row: dict[str, Any] = {}
        with ExitStack() as files:
            for key, value in record.values.items():
                match value:
                    case float():
                        row[key] = value
                    case Text(text) if key.startswith(ALERT):
                        self._run.alert(key.removeprefix(ALERT), text, step=record.policy_step)
                    case Artifact():
                        self._run.log_artifact(self._artifact(value))
                    case _:
                        row[key] = self._shown(value, files)
            if row:
                self._run.log(row, step=record.policy_step)

    def _shown(self, value: Value, files: ExitStack) -> Any:
        match value:
            case Histogram():
                return self._trackio.Histogram(np_histogram=drawn(value))
            case Table(columns, rows):
                return self._trackio.Table(columns=list(columns), data=[list(row) for row in rows])
            case HParams(settings):
                # trackio takes a run's configuration only with its first row; a table can be read at any step.
                self._run.config.update(settings)
                return self._trackio.Table(columns=["setting", "value"], data=[list(item) for item in settings.items()])
            case Text(text):
                return self._trackio.Markdown(valid(text))
            case Image(caption=caption):
                return self._trackio.Image(_file(files, ".png", png(value)), caption=caption)
            case Video(caption=caption):
                return self._trackio.Video(_file(files, ".gif", gif(value)), caption=caption)
        return value

    def _artifact(self, value: Artifact) -> Any:
        name = re.sub(r"[^\w.-]+", "-", value.name, flags=re.ASCII)
        artifact = self._trackio.Artifact(name, value.kind, metadata={**value.metadata, "sha256": value.sha256})
        if value.path.is_dir():
            artifact.add_dir(value.path)
        else:
            artifact.add_file(value.path)
        return artifact


def has_run(project: str, name: str, directory: Path | None = None) -> bool:
    """Whether trackio has a run of that name, which a `TrackioSink` would continue."""
    library = _trackio_in(directory)
    try:
        return any(run.name == name for run in library.Api().runs(project))
    except ValueError:  # there is no such project
        return False


def _file(files: ExitStack, suffix: str, data: bytes) -> str:
    """The path of a file that is there until the row is logged: trackio takes a copy of it."""
    file = files.enter_context(NamedTemporaryFile(suffix=suffix))  # noqa: SIM115 (the stack closes it)
    file.write(data)
    file.flush()
    return file.name


def _trackio_in(directory: Path | None) -> Any:
    """The library, working in `directory`: it looks at the environment once, when it is first imported."""
    if directory is not None and "trackio" not in sys.modules:
        os.environ["TRACKIO_DIR"] = str(Path(directory).resolve())
    import trackio
    from trackio.utils import TRACKIO_DIR

    if directory is not None and Path(directory).resolve() != TRACKIO_DIR.resolve():
        raise SinkError(
            f"sinks.trackio.directory: trackio was imported before and works in {str(TRACKIO_DIR)!r}; set "
            f"TRACKIO_DIR={str(directory)!r} in the environment instead"
        )
    return trackio

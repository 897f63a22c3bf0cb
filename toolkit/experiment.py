"""`Experiment`: the face for experiments of any kind, with metrics, media, settings and saved models in one place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml

from toolkit import backends, build
from toolkit.api import run_directory
from toolkit.artifacts.store import ArtifactStore
from toolkit.callbacks import Callback
from toolkit.callbacks.custom import MetricFunction
from toolkit.callbacks.media import Renderer
from toolkit.callbacks.observer import Saver
from toolkit.config import Source, flat, leaves, load
from toolkit.errors import ConfigError, MissingExtra, ToolkitError
from toolkit.processes import is_main
from toolkit.record import Artifact, HParams, Image, Table, Text, Video
from toolkit.secrets import covered, learn
from toolkit.validation.heldout import HeldOut
from toolkit.validation.scorers import Scorer

ARTIFACTS = "artifacts"
CUSTOM_CONFIG = "custom_config.yaml"


class Experiment:
    """Logs an experiment into `log_dir` and to the backends of its configuration; a context manager.

    The arguments are those of `toolkit.observe`, and `observer` is what that gives: it takes the steps of a GRPO loop.
    All methods belong to the training thread. What a disk or a backend does wrong is logged and counted, never raised;
    a call that could not work on any disk (a bad name, an object that is no model) raises at once.

    Without a `step`, `log_metrics` counts its own, in a continued run from the last one on, and everything else belongs
    to the last one: that of the observer where `log_metrics` had none.
    """

    def __init__(
        self,
        config: Source = "grpo",
        log_dir: str | Path | None = None,
        overrides: Sequence[str] = (),
        *,
        heldout: HeldOut | Sequence[HeldOut] | None = None,
        scorers: Mapping[str, Scorer] | None = None,
        metrics: Mapping[str, MetricFunction] | None = None,
        media: Mapping[str, Renderer] | None = None,
        callbacks: Sequence[Callback] = (),
        save: Saver | None = None,
    ) -> None:
        settings = load(config, overrides)
        self.log_dir = run_directory(log_dir)
        self._past = backends.history(self.log_dir)
        self.observer = build.observer(settings, self.log_dir, heldout, scorers, metrics, media, callbacks, save)
        self._artifacts = ArtifactStore(self.log_dir / ARTIFACTS)
        self._sb3 = settings.sb3
        self._settings: dict[str, Any] = flat(settings)
        self._custom: dict[str, Any] = {}
        self._step: int | None = None
        self._writes = is_main()

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers by key; nested mappings and keys with slashes are the same."""
        if step is None:
            step = self._first_step if self._step is None else self._step + 1
        with contextlib.suppress(TypeError, ValueError):  # a step that is no number is the logger's to complain about
            self._step = int(step)
        self.observer.log(step, values)

    def log_config(self, settings: Mapping[str, Any]) -> None:
        """Add settings of your own to the logged configuration, and to `custom_config.yaml` in the run's directory.

        They may be nested. Before the first metrics they also join the run's row in TensorBoard's HParams tab. Raises
        `ConfigError` for what is no mapping.
        """
        if not isinstance(settings, Mapping):
            raise ConfigError(f"log_config: expected a mapping of settings, got a {type(settings).__name__}")
        given = _plain(settings)
        learn(given)
        self._custom |= covered(given)
        with self._guarded(f"writing {CUSTOM_CONFIG}"):
            self._write_custom_config()
        logged = HParams(self._settings | dict(leaves(self._custom)))
        self.observer.logger.log(0, {"config": logged}, stream="system")

    def log_text(self, key: str, text: str, step: int | None = None) -> None:
        """Log Markdown text."""
        self._log(key, Text(text), step)

    def log_table(
        self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]], step: int | None = None
    ) -> None:
        """Log rows of texts and numbers under named columns."""
        self._log(key, Table(tuple(columns), rows), step)

    def log_image(self, key: str, pixels: np.ndarray, step: int | None = None, caption: str = "") -> None:
        """Log a picture: `toolkit.record.Image` says in what shapes."""
        self._log(key, Image(pixels, caption), step)

    def log_video(
        self, key: str, frames: np.ndarray, fps: float = 10.0, step: int | None = None, caption: str = ""
    ) -> None:
        """Log moving pictures: `toolkit.record.Video` says in what shapes."""
        self._log(key, Video(frames, fps, caption), step)

    def alert(self, title: str, text: str, step: int | None = None) -> None:
        """Say something that a person should see now; backends that can send messages send it."""
        self._log(f"alert/{title}", Text(text), step)

    def save_model(
        self,
        model: Any,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        tokenizer: Any = None,
        step: int | None = None,
    ) -> Artifact | None:
        """Save a model as the next version of `name`, and send it to the backends; None when the disk did not take it.

        A Flax model (NNX, a `TrainState`, variables), any tree of arrays, or a transformers model, with its `tokenizer`
        beside it. It is read and written on this thread, so that it is the model of this moment. Raises
        `ArtifactError` for a name, metadata or an object that cannot be saved.
        """
        return self._save(model, name, metadata, step, tokenizer)

    def log_artifact(
        self, path: str | Path, name: str, metadata: Mapping[str, Any] | None = None, *, step: int | None = None
    ) -> Artifact | None:
        """Save a copy of a file or directory as the next version of `name`; else as `save_model`."""
        return self._save(Path(path), name, metadata, step)

    def load_model(self, name: str, version: int | None = None, like: Any = None) -> Any:
        """What was saved under `name`, by default its newest version: see `ArtifactStore.load`."""
        return self._artifacts.load(name, version, like)

    def get_callbacks(self, eval_env: Any = None) -> list[Any]:
        """Callbacks for `model.learn(callback=...)` of stable-baselines3: metrics, evaluation, checkpoints and videos.

        Evaluation and videos play in `eval_env`, a gymnasium environment or a `VecEnv`, and without one in a new
        environment like the training's. `sb3` of the configuration switches them. Raises `MissingExtra`.
        """
        try:
            from toolkit.callbacks.sb3 import callbacks
        except ModuleNotFoundError as error:
            raise MissingExtra(f"get_callbacks: no module named {error.name}", "sb3") from None
        return callbacks(self.observer, self._sb3, self.log_dir, self._save_file, self._find, eval_env)

    def finish(self) -> None:
        """Write everything and close the backends. Idempotent; also at the end of the `with` block or the process."""
        self.observer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _log(self, key: str, value: Any, step: int | None) -> None:
        self.observer.log(self._at(step), {key: value})

    def _at(self, step: int | None) -> int:
        for known in (step, self._step, self.observer.last_step):
            if known is not None:
                return known
        return self._first_step

    @cached_property
    def _first_step(self) -> int:
        """The step behind those of the sessions before: at an earlier one the run would count as rewound."""
        with self._guarded("reading at which step the run ended"):
            last = self._past.last_step
            return 0 if last is None else last + 1
        return 0

    def _save(
        self, given: Any, name: str, metadata: Mapping[str, Any] | None, step: int | None, tokenizer: Any = None
    ) -> Artifact | None:
        if not self._writes:
            return None
        with self._guarded(f"saving the artifact {name!r}"):
            artifact = self._artifacts.save(given, name, metadata, tokenizer=tokenizer)
            self.observer.log(self._at(step), {f"artifacts/{name}": artifact}, stream="artifacts")
            return artifact
        return None

    def _save_file(self, path: Path, name: str, metadata: Mapping[str, Any], step: int) -> Artifact | None:
        return self._save(path, name, metadata, step)

    def _find(self, name: str) -> Artifact | None:
        return self._artifacts.find(name) if self._artifacts.versions(name) else None

    def _write_custom_config(self) -> None:
        if self._writes:
            draft = self.log_dir / f"{CUSTOM_CONFIG}.new"
            draft.write_text(yaml.safe_dump(self._custom, sort_keys=False))
            os.replace(draft, self.log_dir / CUSTOM_CONFIG)

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Let pass what the caller can put right; what a disk or a library raises must not end a training."""
        try:
            yield
        except ToolkitError:
            raise
        except Exception as error:  # as above
            self.observer.logger.complaints.add(what, error)


def _plain(value: Any) -> Any:
    """Settings of any kind in what YAML has: an object of another kind by its text."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case np.generic():
            return value.item()
        case str() | bool() | int() | float() | None:
            return value
        case _:
            return str(value)

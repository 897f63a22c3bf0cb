"""Settings of the backends."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from toolkit.settings import Seconds, Section, Switch


class ConsoleSink(Switch):
    """`sinks.console`: one table at most every `every_s` seconds."""

    every_s: Seconds = 10.0


class WandbSink(Switch):
    """`sinks.wandb`: what is null is what W&B's own settings say (`WANDB_PROJECT` and so on).

    Except `name` and `group`, which then are the name of the run directory, and `directory`, which then is it.
    """

    enabled: bool = False
    mode: Literal["online", "offline"] | None = None
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    directory: Path | None = None
    init_timeout_s: Seconds = 10.0
    finish_timeout_s: Seconds = 5.0


class TrackioSink(Switch):
    """`sinks.trackio`: `name` and `group` are by default the name of the run directory.

    `directory` is by default trackio's own (`TRACKIO_DIR`), where the dashboard finds the runs of all projects.
    """

    enabled: bool = False
    project: str = "grpo"
    name: str | None = None
    group: str | None = None
    directory: Path | None = None


class MlflowSink(Switch):
    """`sinks.mlflow`: `tracking_uri` is by default MLflow's own (`MLFLOW_TRACKING_URI`).

    `run_name` is by default the name of the run directory.
    """

    enabled: bool = False
    tracking_uri: str | None = None
    experiment: str = "grpo"
    run_name: str | None = None


class Sinks(Section):
    """The backends. The journal (jsonl) is the run's own memory: the others can be rebuilt from it."""

    console: ConsoleSink = ConsoleSink()
    jsonl: Switch = Switch()
    tensorboard: Switch = Switch()
    wandb: WandbSink = WandbSink()
    trackio: TrackioSink = TrackioSink()
    mlflow: MlflowSink = MlflowSink()
